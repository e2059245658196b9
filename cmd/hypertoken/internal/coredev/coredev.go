// Package coredev is what `hypertoken core` does: it writes the crate of a core, builds it, runs
// its tests and its traces, and checks the module as a host would.
package coredev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// UsageError is an argument that can't be meant.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return e.Message }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// library is the package that every core depends on.
const library = "hypertoken-core"

// packageName finds the name in a crate's manifest.
var packageName = regexp.MustCompile(`(?ms)^\[package\].*?^name\s*=\s*"([^"]+)"`)

// Package returns the name of the crate in a directory. It fails if there is no crate.
func Package(dir string) (string, error) {
	manifest, err := os.ReadFile(filepath.Join(dir, "Cargo.toml"))
	if errors.Is(err, fs.ErrNotExist) {
		return "",
			usage("%s has no Cargo.toml: give the directory of a core's crate; 'hypertoken core new NAME' makes one",
				dir)
	}
	if err != nil {
		return "", err
	}
	m := packageName.FindSubmatch(manifest)
	if m == nil {
		return "", usage("%s has no [package] with a name", filepath.Join(dir, "Cargo.toml"))
	}
	return string(m[1]), nil
}

// FindLibrary returns the directory of the crate hypertoken-core: core-rs in one of the places, or
// in a directory above one. It returns "" if there is none.
func FindLibrary(places ...string) string {
	for _, place := range places {
		dir, err := filepath.Abs(place)
		if err != nil {
			continue
		}
		for {
			candidate := filepath.Join(dir, "core-rs")
			if name, err := Package(candidate); err == nil && name == library {
				return candidate
			}
			above := filepath.Dir(dir)
			if above == dir {
				break
			}
			dir = above
		}
	}
	return ""
}
