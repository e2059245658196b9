// Package require lets tests say what they need: a tool of the machine, or the time of a deep run.
package require

import (
	"os"
	"os/exec"
	"testing"
)

// Tool returns the path of a program. If there is none, the test is skipped with the reason; if
// HYPERTOKEN_REQUIRE is all, as on CI, it fails instead.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	Missing(t, name, err)
	return ""
}

// Missing skips a test for want of something that the machine does not have, with the reason, or
// fails it as [Tool] does.
func Missing(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("HYPERTOKEN_REQUIRE") == "all" {
		t.Fatalf("%s is needed (HYPERTOKEN_REQUIRE=all): %v", what, err)
	}
	t.Skipf("%s is not here: %v", what, err)
}
