// Package require lets tests say which tools of the machine they need.
package require

import (
	"os"
	"os/exec"
	"testing"
)

// Tool returns the path of a program. Where there is none the test is skipped, with the reason; where HYPERTOKEN_REQUIRE
// is all, as on CI, it fails.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("HYPERTOKEN_REQUIRE") == "all" {
		t.Fatalf("%s is needed (HYPERTOKEN_REQUIRE=all): %v", name, err)
	}
	t.Skipf("%s is not here: %v", name, err)
	return ""
}
