package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/upgrade"
	"hypertoken/internal/printable"
	"hypertoken/wasm"
)

// checkUpgrade is 'hypertoken serve --check-upgrade': it tries the core on the stored games.
func checkUpgrade(c *cobra.Command, f *hostFlags) error {
	if f.data == "" {
		return usageError{errors.New("--check-upgrade needs --data: the directory whose games it checks")}
	}
	options, err := f.options()
	if err != nil {
		return err
	}
	builtin := wasm.Builtin()
	code := builtin
	if f.core != "" {
		if code, err = os.ReadFile(f.core); err != nil {
			return usageError{fmt.Errorf("--core: %w", err)}
		}
	}
	if hash := wasm.Hash(code); options.CoreSHA256 != "" && !strings.EqualFold(hash, options.CoreSHA256) {
		return usageError{fmt.Errorf("--core-sha256 is %s, and the core has %s", options.CoreSHA256, hash)}
	}
	store, err := f.openData(0)
	if err != nil {
		return err
	}
	defer store.close(f.logger())
	progress := newProgress(c.ErrOrStderr())
	sum, err := upgrade.Check(c.Context(), store.disk, upgrade.Options{
		Core: code, Known: [][]byte{builtin}, MemoryLimit: uint64(options.MaxEngineMemory),
		Limits: wasm.Limits{MaxStateBytes: uint64(options.MaxStateBytes), MaxResult: uint32(options.MaxResult),
			MaxDepth: uint32(options.MaxDepth)},
		Timeout: max(options.Timeout, 0),
		Report: func(name, why string) error {
			progress.clear()
			_, err := fmt.Fprintf(c.OutOrStdout(), "DIFFERS %s: %s\n", printable.Line(name, 0), printable.Line(why, 0))
			return err
		},
		Progress: func(s upgrade.Summary) {
			progress.show("%d games, %d actions, %d would differ", s.Games, s.Actions, s.Differ)
		},
	})
	progress.clear()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%d games, %d actions: %d would differ. %d more are with this core already\n",
		sum.Games, sum.Actions, sum.Differ, sum.Present)
	if err == nil && sum.Differ > 0 {
		return errReported
	}
	return err
}
