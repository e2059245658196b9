// Package require lets tests say which tools of the machine they need.
package require

import (
	"os"
	"os/exec"
	"testing"
)

// Tool returns the path of a program. Where there is none the test is skipped, with the reason;
// where HYPERTOKEN_REQUIRE is all, as on CI, it fails.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	Missing(t, name, err)
	return ""
}

// Deep skips a test that builds whole programs anew, which takes minutes, unless HYPERTOKEN_DEEP is
// set, as `make test-deep` does.
func Deep(t testing.TB) {
	t.Helper()
	if os.Getenv("HYPERTOKEN_DEEP") == "" {
		t.Skip("it builds whole programs anew: `make test-deep` runs it")
	}
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
