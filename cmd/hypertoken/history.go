package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"hypertoken/journal"
)

// historyFlag is the value of --history: how much a store keeps of what came before a game's newest
// snapshot.
type historyFlag struct {
	journal.History
	text  string
	isSet bool
}

func (h *historyFlag) String() string { return h.text }
func (h *historyFlag) Type() string   { return "history" }

func (h *historyFlag) Set(s string) error {
	parsed, err := parseHistory(s)
	if err != nil {
		return err
	}
	*h = historyFlag{parsed, s, true}
	return nil
}

var errHistory = errors.New("want all, since-base, a size such as 64MiB, an age such as 30d or 12h, or a size and an age " +
	"with a comma between them")

// parseHistory reads the text of --history.
func parseHistory(s string) (h journal.History, err error) {
	switch s {
	case "all":
		return h, nil
	case "since-base":
		return journal.History{SinceBase: true}, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		age, ageErr := parseAge(part)
		size, sizeErr := humanize.ParseBytes(part)
		switch {
		case ageErr == nil && age > 0 && h.Age == 0:
			h.Age = age
		case ageErr == nil || sizeErr != nil || !strings.HasSuffix(part, "B") || h.Bytes != 0:
			return journal.History{}, fmt.Errorf("%q is no history: %w", part, errHistory)
		case size > 0 && size < 1<<62:
			h.Bytes = size
		default:
			return journal.History{}, fmt.Errorf("%q is no history: %w", part, errHistory)
		}
	}
	return h, nil
}

// maxDays is the greatest age in days: about 290 years would not fit.
const maxDays = 100_000

// parseAge reads a duration, which may be a number of days.
func parseAge(s string) (time.Duration, error) {
	days, isDays := strings.CutSuffix(s, "d")
	if !isDays {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 64)
	if err != nil || n > maxDays {
		return 0, fmt.Errorf("%q is no number of days up to %d", days, maxDays)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}
