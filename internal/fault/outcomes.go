package fault

import (
	"errors"
	"slices"
)

// The outcomes by which actions are counted. There are as many whatever a core does: all codes that
// are a core's own are one outcome.

// MaxOutcomes is room for all outcomes.
const MaxOutcomes = 32

const (
	outcomeOK    = "ok"
	outcomeCore  = "core"
	outcomeOther = "other"
)

// BuiltinCodes returns the codes of failures that every core may answer, in the order in which outcomes are listed.
func BuiltinCodes() []string {
	return []string{"unknown_action", "bad_payload", "out_of_range", "not_found", "exists", "insufficient",
		"too_large", "too_deep", "bad_state", "trap", "out_of_memory"}
}

var (
	outcomes              = listOutcomes()
	coreIndex, otherIndex = len(outcomes) - 2, len(outcomes) - 1
	// The numbers of outcomes, by the codes of errors of cores and of the host.
	builtinIndex, hostIndex = indexOf(BuiltinCodes()), indexOf(hostCodes())
)

func hostCodes() (codes []string) {
	for _, e := range All() {
		codes = append(codes, e.Code)
	}
	return codes
}

func listOutcomes() []string {
	return slices.Concat([]string{outcomeOK}, BuiltinCodes(), hostCodes(), []string{outcomeCore, outcomeOther})
}

func indexOf(codes []string) map[string]int {
	m := map[string]int{}
	for _, code := range codes {
		m[code] = slices.Index(listOutcomes(), code)
	}
	return m
}

// Outcomes returns all outcomes, by their numbers. The first one is success.
func Outcomes() []string { return slices.Clone(outcomes) }

// OutcomeOf returns the outcome of an action that ended with err.
func OutcomeOf(err error) string { return outcomes[OutcomeNumber(err)] }

// OutcomeNumber returns the number of the outcome of an action that ended with err.
func OutcomeNumber(err error) int {
	if err == nil {
		return 0
	}
	var h *Error
	var a *ActionError
	switch {
	case errors.As(err, &h):
		if at, known := hostIndex[h.Code]; known {
			return at
		}
	case errors.As(err, &a):
		if at, known := builtinIndex[a.Code]; known {
			return at
		}
		return coreIndex
	}
	return otherIndex
}
