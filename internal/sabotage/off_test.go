//go:build !sabotage

package sabotage_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hypertoken/internal/sabotage"
)

// A program that is built without the tag has nothing of it: no hook, no name of a point, no look at the environment.
func TestNothingIsLeftWithoutTheTag(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hypertoken")
	// Without what a debugger needs: it names what was inlined, even where no code is left.
	if out, err := exec.Command("go", "build", "-ldflags=-w", "-o", path, "hypertoken/cmd/hypertoken").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(program, []byte("hypertoken/host.(*engineMachine).commit")) {
		t.Fatal("functions have no names in it")
	}
	names := []string{"internal/sabotage", sabotage.Variable}
	for _, b := range sabotage.Breaches {
		names = append(names, string(b.Point))
	}
	for _, name := range names {
		if bytes.Contains(program, []byte(name)) {
			t.Errorf("it has %q", name)
		}
	}
}
