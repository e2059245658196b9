package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/coredev"
	"hypertoken/host"
	"hypertoken/internal/printable"
)

func newCore() *cobra.Command {
	c := &cobra.Command{
		Use:   "core",
		Short: "Write, build, test and check a core of your own",
		Long: `core helps you to write a core in Rust: the built-in actions, and those of your own game.

  hypertoken core new my-game            write a crate
  cd my-game
  hypertoken core test                   run its tests, natively and on a worker
  hypertoken core build                  build my-game.wasm
  hypertoken core check                  check it as a host would, and that replays agree
  hypertoken serve --core my-game.wasm   play

docs/cores.md builds a whole game this way. You need Rust: rustup.rs, with
'rustup target add wasm32-unknown-unknown'; or Debian's rustc-web, cargo-web, rust-web-src
and lld-19.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCoreNew(), newCoreBuild(), newCoreTest(), newCoreCheck())
	return c
}

// coreError turns an error about an argument that can't be right into a usage error.
func coreError(err error) error {
	var wrong *coredev.UsageError
	if errors.As(err, &wrong) {
		return usageError{err}
	}
	return err
}

func newCoreNew() *cobra.Command {
	var from coredev.Source
	c := &cobra.Command{
		Use:   "new [flags] NAME",
		Short: "Write the crate of a core",
		Long: `new writes a crate into the directory NAME, which must be empty or must not exist. The crate
has a small action, native tests of it, lines for a worker with the wanted answers, and the
flags that the build needs. NAME may be a path. Its last element is the name of the crate:
lower-case letters, digits, - and _, at most 64.

The crate depends on hypertoken-core. --path names the directory core-rs of a checkout of
HyperToken; the default is the checkout that contains the current directory, or this program.
--git names a repository instead.

Exit status: 0 for success, 1 if a file could not be written, 2 for wrong usage.`,
		Example: `  hypertoken core new my-game
  hypertoken core new my-game --path ../hypertoken/core-rs
  hypertoken core new my-game --git https://example.org/hypertoken.git`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if from.Path != "" && from.Git != "" {
				return usageError{errors.New("--path and --git exclude each other")}
			}
			if from.Path == "" && from.Git == "" {
				program, _ := os.Executable()
				if from.Path = coredev.FindLibrary(".", filepath.Dir(program)); from.Path == "" {
					return usageError{errors.New(
						"there is no checkout of HyperToken here: name its directory core-rs with --path, " +
							"or its repository with --git")}
				}
			}
			written, err := coredev.Create(args[0], from)
			if err != nil {
				return coreError(err)
			}
			out := c.OutOrStdout()
			for _, name := range written {
				fmt.Fprintln(out, filepath.Join(args[0], filepath.FromSlash(name)))
			}
			_, err = fmt.Fprintf(out, "\nnext: cd %s && hypertoken core test\n", args[0])
			return err
		},
	}
	c.Flags().StringVar(&from.Path, "path", "", "depend on the hypertoken-core in this `directory`")
	c.Flags().StringVar(&from.Git, "git", "", "depend on the hypertoken-core in the Git repository at this `URL`")
	return c
}

// coreDir returns the directory of the crate that a command works on.
func coreDir(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return "."
}

func newCoreBuild() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "build [flags] [DIR]",
		Short: "Build a core for WebAssembly",
		Long: `build builds the crate in DIR, by default the current directory, exactly as the built-in core
is built. It uses an installed wasm32-unknown-unknown target if there is one. Otherwise it uses
a compiler that has the sources of std beside it, such as Debian's. The bytes of the module
depend on the sources and the toolchain alone.

Exit status: 0 for success, 1 if the build failed, 2 for wrong usage.`,
		Example: `  hypertoken core build
  hypertoken core build my-game -o games/my-game.wasm`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			return buildCore(ctx, c, coreDir(args), &out)
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "write the module to this `file` (default DIR/NAME.wasm)")
	return c
}

// buildCore builds the crate in dir, and prints the name and the size of its module. If *out is
// empty, it becomes the default name.
func buildCore(ctx context.Context, c *cobra.Command, dir string, out *string) (err error) {
	if *out == "" {
		if *out, err = coredev.Output(dir); err != nil {
			return coreError(err)
		}
	}
	if err := coredev.Build(ctx, dir, *out, c.ErrOrStderr()); err != nil {
		return coreError(err)
	}
	info, err := os.Stat(*out)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", *out, humanize.IBytes(uint64(info.Size())))
	return err
}

func newCoreTest() *cobra.Command {
	var update bool
	c := &cobra.Command{
		Use:   "test [flags] [DIR]",
		Short: "Run a core's tests, natively and on a worker",
		Long: `test runs 'cargo test' for the crate in DIR, by default the current directory. If the crate has
traces, tests/*.jsonl, it then builds DIR/NAME.wasm and runs each trace on a worker process, as
'hypertoken run' does. It compares the answers with those in tests/*.want. An action without
now and entropy gets values that depend on its line alone: line L has the clock
1700000000000 + 1000 L and the entropy L, as 32 hexadecimal digits.

Exit status: 0 for success, 1 if a test failed, 2 for wrong usage.`,
		Example: `  hypertoken core test
  hypertoken core test my-game --update     make the present answers the wanted ones`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			dir := coreDir(args)
			ctx := c.Context()
			if err := coredev.TestNatively(ctx, dir, c.ErrOrStderr()); err != nil {
				return coreError(err)
			}
			traces, err := coredev.Traces(dir)
			if err != nil || len(traces) == 0 {
				return err
			}
			var module string
			if err := buildCore(ctx, c, dir, &module); err != nil {
				return err
			}
			return runTraces(ctx, c.OutOrStdout(), module, traces, update)
		},
	}
	c.Flags().BoolVar(&update, "update", false, "write the answers to tests/*.want instead of comparing them")
	return c
}

// runTraces runs traces on a worker. If one differs, it goes on with the next.
func runTraces(ctx context.Context, out io.Writer, module string, traces []coredev.Trace, update bool) error {
	h, err := host.New(ctx, host.Options{Workers: 1, CorePath: module, StartTimeout: time.Minute,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	failed := false
	for _, t := range traces {
		var answers bytes.Buffer
		r := runner{host: h, out: bufio.NewWriter(&answers), maxLine: 64 << 20, maxPayload: 16 << 20}
		if err := r.run(ctx, bytes.NewReader(t.Lines)); err != nil && !errors.Is(err, errReported) {
			return err
		}
		verdict := fmt.Sprintf("ok    %s: %d answers", t.Path, bytes.Count(answers.Bytes(), []byte("\n")))
		if update {
			changed, err := t.Update(answers.Bytes())
			if err != nil {
				return err
			}
			if changed {
				verdict = "new   " + t.Want
			}
		} else if err := t.Compare(answers.Bytes()); err != nil {
			failed = true
			verdict = "FAIL  " + err.Error()
		}
		if _, err := fmt.Fprintln(out, verdict); err != nil {
			return err
		}
	}
	if failed {
		return errReported
	}
	return nil
}

func newCoreCheck() *cobra.Command {
	check := coredev.Checker{}
	c := &cobra.Command{
		Use:   "check [flags] [FILE.wasm|DIR]",
		Short: "Check a core as a host would, and compare its replays",
		Long: `check reads a module. If its argument is a directory (by default the current one), it builds
the crate there, and runs its traces too. It reports

  - everything that a host would refuse: imports, exports, the version of the ABI, memory and
    tables;
  - the actions that the built-in core does not have, and which of them have no description;
  - whether actions answer alike on two engines and after a restore. It runs each action that
    the built-in core does not have without a payload, with its fields, and with fields of
    wrong types;
  - whether actions that fail leave the state as it was, and have a code and a message;
  - actions that panic, or do not end in time.

Each finding is a line that begins with ok, warn or FAIL.

Exit status: 0 if a host can use the core, 1 if not, 2 for wrong usage.`,
		Example: `  hypertoken core check
  hypertoken core check my-game.wasm`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if check.Timeout <= 0 {
				return usageError{fmt.Errorf("--timeout is %v, not above 0", check.Timeout)}
			}
			ctx := c.Context()
			path := coreDir(args)
			info, err := os.Stat(path)
			if err != nil {
				return usageError{err}
			}
			if info.IsDir() {
				dir := path
				path = ""
				if err := buildCore(ctx, c, dir, &path); err != nil {
					return err
				}
				if check.Traces, err = coredev.Traces(dir); err != nil {
					return err
				}
			}
			code, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var writing error
			check.Report = func(f coredev.Finding) {
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%-5s %s\n", f.Verdict,
					printable.Line(f.Text, 0)); err != nil {
					writing = err
				}
			}
			check.Progress = func(what string) { fmt.Fprintf(c.ErrOrStderr(), "%s...\n", what) }
			sound, err := check.Check(ctx, code)
			switch {
			case err != nil:
				return err
			case writing != nil:
				return writing
			case !sound:
				return errReported
			}
			_, err = fmt.Fprintf(c.OutOrStdout(),
				"\nnext: hypertoken run --core %s, or hypertoken serve --core %[1]s\n", path)
			return err
		},
	}
	c.Flags().DurationVar(&check.Timeout, "timeout", coredev.DefaultActionTimeout,
		"how long an action may take; everything else may take ten times as long")
	return c
}
