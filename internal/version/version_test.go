package version_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"hypertoken/internal/version"
)

// The program, the newest release in CHANGELOG.md and the npm package have one version.
func TestOneVersion(t *testing.T) {
	log, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	released := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$`).FindSubmatch(log)
	if released == nil || string(released[1]) != version.Version {
		t.Errorf("CHANGELOG.md has %q as its newest release, the program is %s", released, version.Version)
	}
	if !strings.Contains(string(log), "## [Unreleased]\n") {
		t.Error("CHANGELOG.md has no section for what is unreleased")
	}
	b, err := os.ReadFile("../../browser/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var npm struct{ Version string }
	if err := json.Unmarshal(b, &npm); err != nil || npm.Version != version.Version {
		t.Errorf("browser/package.json has the version %q, the program is %s: %v", npm.Version, version.Version, err)
	}
	if got := version.String(); got != version.Version && !strings.HasPrefix(got, version.Version+" ") {
		t.Errorf("it calls itself %q", got)
	}
}
