package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"hypertoken/cmd/hypertoken/internal/licenses"
)

// NOTICE and the licences name every module that the program is linked from, in the version that
// is linked.
func TestEveryLinkedModuleIsNamed(t *testing.T) {
	text, notice, err := generate("../../../../..")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../../../../NOTICE")
	if err != nil || string(have) != notice {
		t.Errorf("NOTICE is not what the program is linked from: make notice (%v)", err)
	}
	if licenses.Text != text {
		t.Error("cmd/hypertoken/internal/licenses/THIRD_PARTY.txt is not what the program is linked from: make notice")
	}
	modules, _, err := linked("../../../../..")
	if err != nil {
		t.Fatal(err)
	}
	for path, m := range modules {
		if !strings.Contains(licenses.Text, "\n"+path+" "+m.version+"\n") {
			t.Errorf("%s %s is linked and has no licence: make notice", path, m.version)
		}
	}
	if len(modules) < 20 || !strings.Contains(notice, "github.com/hashicorp/yamux") ||
		!strings.Contains(text, "Mozilla Public License, version 2.0") {
		t.Errorf("%d modules", len(modules))
	}
}

// NOTICE and the npm package name the crates that are linked into core.wasm, with their versions,
// and no others. These are the dependencies of the built-in core, and their dependencies.
func TestEveryLinkedCrateIsNamed(t *testing.T) {
	linked := linkedCrates(t, "../../../../../core-rs")
	if len(linked) == 0 {
		t.Fatal("core-rs depends on no crate")
	}
	for file, entry := range map[string]*regexp.Regexp{
		"../crates.txt": regexp.MustCompile(`(?m)^([a-z][\w-]*) (\d[\w.+-]*)(?:,.*)?$`),
		"../../../../../browser/THIRD-PARTY-LICENSES.txt": regexp.MustCompile(`(?m)^([a-z][\w-]*) \(version (\d[\w.+-]*)\)$`),
	} {
		text := read(t, file)
		named := map[string]string{}
		for _, m := range entry.FindAllStringSubmatch(text, -1) {
			named[m[1]] = m[2]
		}
		for name, version := range linked {
			if named[name] != version {
				t.Errorf("%s has version %q of the crate %s, but %s is linked", file, named[name], name, version)
			}
		}
		for name := range named {
			if linked[name] == "" && !standardLibrary[name] {
				t.Errorf("%s has the crate %s, which is not linked", file, name)
			}
		}
	}
}

// standardLibrary are crates of others that Rust's standard library links for wasm32. Cargo.lock
// does not have them.
var standardLibrary = map[string]bool{"dlmalloc": true}

// linkedCrates returns the versions of the crates that the built-in core of the workspace in root
// links, by name. Optional dependencies are left out: no feature is on there.
func linkedCrates(t *testing.T, root string) map[string]string {
	t.Helper()
	versions, dependencies := map[string]string{}, map[string][]string{}
	for _, p := range strings.Split(read(t, root+"/Cargo.lock"), "[[package]]\n")[1:] {
		name := regexp.MustCompile(`(?m)^name = "(.*)"$`).FindStringSubmatch(p)[1]
		if versions[name] != "" {
			versions[name] = "of several" // no crate that is linked may be one
			continue
		}
		versions[name] = regexp.MustCompile(`(?m)^version = "(.*)"$`).FindStringSubmatch(p)[1]
		for _, d := range regexp.MustCompile(`(?m)^ "([\w-]+)`).FindAllStringSubmatch(p, -1) {
			dependencies[name] = append(dependencies[name], d[1])
		}
	}
	linked := map[string]string{}
	var link func(name string)
	link = func(name string) {
		if linked[name] != "" {
			return
		}
		linked[name] = versions[name]
		for _, d := range dependencies[name] {
			link(d)
		}
	}
	section := regexp.MustCompile(`(?ms)^\[dependencies\]$(.*?)(?:^\[|\z)`)
	for _, manifest := range []string{"Cargo.toml", "builtin/Cargo.toml"} {
		own := section.FindStringSubmatch(read(t, root+"/"+manifest))
		if own == nil {
			t.Fatalf("%s has no dependencies", manifest)
		}
		for _, d := range regexp.MustCompile(`(?m)^([\w-]+) *=(.*)$`).FindAllStringSubmatch(own[1], -1) {
			if !strings.Contains(d[2], "optional = true") && d[1] != "hypertoken-core" {
				link(d[1])
			}
		}
	}
	return linked
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}
