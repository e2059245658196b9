package imports

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// nested has the modules of their own in this repository, by folder, and what their packages may
// import beside the standard library. This module links the store on disk, into applications only.
var nested = map[string]row{
	"journal/disk": {library, "journal",
		"github.com/cespare/xxhash/v2 github.com/cockroachdb/pebble/v2 github.com/prometheus/client_golang"},
	"journal/jetstream": {library, "internal/cluster journal", "github.com/cespare/xxhash/v2 " +
		"github.com/nats-io/nats.go " +
		"github.com/prometheus/client_golang golang.org/x/sys"},
	"deploy/check":         {shared, "", ""}, // tests only
	"examples/sqlitestore": {application, "internal/storeload journal workerproc", "modernc.org/sqlite"},
}

// required returns the modules that a module requires, with their versions.
func required(t *testing.T, folder string) map[string]string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	c.Dir = folder
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go mod edit in %s: %v", folder, err)
	}
	var mod struct {
		Go      string
		Require []struct{ Path, Version string }
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&mod); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{"go": mod.Go}
	for _, r := range mod.Require {
		versions[r.Path] = r.Version
	}
	return versions
}

// A module of its own that the root requires is tested with the versions that applications get.
func TestTheVersionsOfModulesAgree(t *testing.T) {
	root := required(t, "../..")
	isLinked := func(folder string) bool {
		for path := range root {
			if strings.HasSuffix(path, "/"+folder) {
				return true
			}
		}
		return false
	}
	if !isLinked("journal/disk") {
		t.Error("the root does not require journal/disk")
	}
	for folder := range nested {
		if !isLinked(folder) {
			continue
		}
		for path, version := range required(t, "../../"+folder) {
			if want, isRequired := root[path]; isRequired && version != want {
				t.Errorf("%s requires %s %s, the root requires %s", folder, path, version, want)
			}
		}
	}
}

// A module of its own imports what its row allows, and of this module what foundations may.
func TestWhatModulesOfTheirOwnImport(t *testing.T) {
	for folder, allowed := range nested {
		own, modules := set{}, set{}
		for _, system := range systems {
			all := listIn(t, "../../"+folder, system, "./...")
			for _, p := range all {
				if p.Module == nil || !p.Module.Main {
					continue
				}
				for _, path := range p.Imports {
					imported := all[path]
					switch {
					case imported == nil || imported.Standard || imported.Module.Main:
					case imported.isOfTheRoot():
						own[imported.folder()] = true
					default:
						modules[imported.Module.Path] = true
					}
				}
			}
		}
		compare(t, folder, "import", allowed.own, own)
		compare(t, folder, "import", allowed.modules, modules)
	}
}
