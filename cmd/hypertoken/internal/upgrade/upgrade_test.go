package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"hypertoken/cmd/hypertoken/internal/upgrade"
	"hypertoken/internal/cores"
	"hypertoken/journal"
	"hypertoken/wasm"
)

// written is a store with games that the built-in core has played.
type written struct {
	t *testing.T
	upgrade.Source
	store    journal.Store
	instance *wasm.Instance
}

func newWritten(t *testing.T) *written {
	t.Helper()
	core, err := wasm.Compile(t.Context(), wasm.Builtin(), wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	i, err := core.Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = core.Close(context.Background()) })
	if err := i.Open(t.Context(), wasm.DefaultLimits, nil); err != nil {
		t.Fatal(err)
	}
	store := journal.NewMemory()
	return &written{t, store.(upgrade.Source), store, i}
}

// game adds a game of one action, whose checksum is off by so much.
func (w *written) game(name, core string, data []byte, off uint64) {
	w.t.Helper()
	payload := []byte("\x82\xa3key\xa1k\xa5value\x01")
	r, err := w.instance.Dispatch(w.t.Context(), &wasm.Action{Type: "game:setProperty", Payload: payload})
	if err != nil {
		w.t.Fatal(err)
	}
	failed := func(err error) {
		if err != nil {
			w.t.Error(err)
		}
	}
	owner := journal.Owner{Number: 1}
	w.store.Install(name, owner, journal.Base{Core: core, Data: data}, journal.DoneFunc(failed))
	action := journal.AppendAction(nil, &journal.Action{}, "game:setProperty", payload)
	w.store.Append(name, owner, 0, []journal.Record{{Action: action, Checksum: xxhash.Sum64(r.Result) + off}},
		journal.DoneFunc(failed))
}

// check tries the core with actions of its own, and returns what is reported.
func (w *written) check(ctx context.Context) (upgrade.Summary, []string, error) {
	var reports []string
	sum, err := upgrade.Check(ctx, w.Source, upgrade.Options{
		Core: cores.Example, Known: [][]byte{wasm.Builtin()}, Limits: wasm.DefaultLimits,
		Report: func(name, why string) error {
			reports = append(reports, name+": "+why)
			return nil
		},
	})
	return sum, reports, err
}

func TestCheck(t *testing.T) {
	w := newWritten(t)
	builtin := wasm.Hash(wasm.Builtin())
	w.game("a", builtin, nil, 0)
	w.game("b", builtin, nil, 1)
	w.game("c", wasm.Hash(cores.Example), nil, 0)
	w.game("d", strings.Repeat("0", 64), nil, 0)
	w.game("e", builtin, []byte("no setup"), 0)
	sum, reports, err := w.check(t.Context())
	if err != nil || sum != (upgrade.Summary{Games: 4, Differ: 3, Present: 1, Actions: 1}) {
		t.Errorf("%+v, %v", sum, err)
	}
	for k, want := range []string{"b: diverged: the former core: sequence 1, game:setProperty",
		"d: core_mismatch: the former core", "e: the former core"} {
		if k >= len(reports) || !strings.HasPrefix(reports[k], want) {
			t.Errorf("reports: %q, want %q", reports, want)
		}
	}
}

// All pages of a store are checked.
func TestCheckManyGames(t *testing.T) {
	w := newWritten(t)
	for k := range 1001 {
		w.game(fmt.Sprintf("%04d", k), wasm.Hash(cores.Example), nil, 0)
	}
	w.game("last", wasm.Hash(wasm.Builtin()), nil, 0)
	sum, reports, err := w.check(t.Context())
	if err != nil || len(reports) > 0 || sum.Games != 1 || sum.Present != 1001 {
		t.Errorf("%+v, %q, %v", sum, reports, err)
	}
}

func TestACheckThatIsEnded(t *testing.T) {
	w := newWritten(t)
	w.game("a", wasm.Hash(wasm.Builtin()), nil, 0)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	sum, reports, err := w.check(ctx)
	if !errors.Is(err, cause) && !errors.Is(err, context.Canceled) || sum.Games > 0 || len(reports) > 0 {
		t.Errorf("%+v, %q, %v", sum, reports, err)
	}
}
