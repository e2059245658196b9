package coredev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	corers "hypertoken/core-rs"
)

// Output returns the default path of the module that is built from the crate in a directory.
func Output(dir string) (string, error) {
	name, err := Package(dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name+".wasm"), nil
}

// Build builds the crate in a directory for WebAssembly, exactly as the built-in core is built,
// and writes the module to out. Cargo's progress and its errors go to log.
func Build(ctx context.Context, dir, out string, log io.Writer) error {
	if _, err := Package(dir); err != nil {
		return err
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		return fmt.Errorf("building needs bash, which was not found (%w): on Windows, Git includes it", err)
	}
	script, err := os.CreateTemp("", "hypertoken-build-*.sh")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(script.Name()) }()
	if _, err = script.Write(corers.BuildScript); err == nil {
		err = script.Close()
	}
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	return run(exec.CommandContext(ctx, bash, script.Name(), "--crate", dir, out), log, log, "the build")
}

// TestNatively runs the crate's Rust tests. Their output goes to log.
func TestNatively(ctx context.Context, dir string, log io.Writer) error {
	if _, err := Package(dir); err != nil {
		return err
	}
	cargo, err := exec.LookPath("cargo")
	if err != nil {
		return fmt.Errorf(
			"the Rust tests take cargo, which is not here (%w): install Rust from rustup.rs, or Debian's cargo-web",
			err)
	}
	command := exec.CommandContext(ctx, cargo, "test")
	command.Dir = dir
	return run(command, log, log, "cargo test")
}

// run runs a command. If it fails, the error names the command by what.
func run(command *exec.Cmd, stdout, stderr io.Writer, what string) error {
	command.Stdout, command.Stderr = stdout, stderr
	interruptible(command)
	err := command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s failed (%w); see above", what, err)
	}
	return err
}
