// Command generate writes NOTICE, and THIRD_PARTY.txt in cmd/hypertoken/internal/licenses. They
// list the modules that are linked into cmd/hypertoken on any system, with their licences. `make
// notice` runs it, at the root of the module. It needs the sources of all modules.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	text, notice, err := generate(".")
	for name, b := range map[string]string{"cmd/hypertoken/internal/licenses/THIRD_PARTY.txt": text, "NOTICE": notice} {
		if err == nil {
			err = os.WriteFile(name, []byte(b), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// platforms are the platforms for which the program is built. Each may link other modules.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/arm64", "darwin/amd64", "windows/amd64", "windows/arm64"}

// component is a module that is linked, or another part of the program.
type component struct {
	name, version, source string
	kind                  string
	texts                 []string // of its licences and notices
}

// linked returns the modules that are linked into cmd/hypertoken, by their paths, and the
// directories of their packages.
func linked(root string) (map[string]*component, map[string][]string, error) {
	modules, directories := map[string]*component{}, map[string][]string{}
	for _, p := range platforms {
		system, arch, _ := strings.Cut(p, "/")
		c := exec.Command("go", "list", "-deps", "-json=Dir,Module", "./cmd/hypertoken")
		c.Dir, c.Env, c.Stderr = root, append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0"), os.Stderr
		out, err := c.Output()
		if err != nil {
			return nil, nil, fmt.Errorf("go list for %s: %w", p, err)
		}
		for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
			var pkg struct {
				Dir    string
				Module *struct {
					Path, Version, Dir string
					Main               bool
					Replace            *struct{ Version string }
				}
			}
			if err := d.Decode(&pkg); err != nil {
				return nil, nil, err
			}
			m := pkg.Module
			if m == nil || m.Main || m.Replace != nil && m.Replace.Version == "" {
				continue // the standard library, or a module of this repository
			}
			source := "https://pkg.go.dev/" + m.Path + "@" + m.Version
			modules[m.Path] = &component{name: m.Path, version: m.Version, source: source}
			for dir := pkg.Dir; len(dir) >= len(m.Dir); dir = filepath.Dir(dir) {
				if !slices.Contains(directories[m.Path], dir) {
					directories[m.Path] = append(directories[m.Path], dir)
				}
			}
		}
	}
	return modules, directories, nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// read reads the licences in a module's directories.
func (c *component) read(directories []string) error {
	slices.Sort(directories)
	for _, dir := range directories {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() || !licenceFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			text := strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n"))
			if k := kind(text); k != "" && !strings.Contains(c.kind, k) {
				c.kind = strings.TrimPrefix(c.kind+", "+k, ", ")
			}
			c.texts = append(c.texts, text)
		}
	}
	if c.kind == "" {
		return fmt.Errorf("%s has no licence that is known; the files are %v", c.name, directories)
	}
	return nil
}

// kind names a licence by what only its text has, "" for a notice or an unknown one.
func kind(text string) string {
	plain := strings.ToLower(strings.Join(strings.Fields(text), " "))
	for _, k := range []struct{ has, name string }{
		{"Mozilla Public License", "MPL-2.0"},
		{"Apache License Version 2.0", "Apache-2.0"},
		{"Permission is hereby granted, free of charge", "MIT"},
		{"either express or implied. Neither the name", "BSD-3-Clause"},
		{"Permission to use, copy, modify, and", "ISC"},
	} {
		if strings.Contains(plain, strings.ToLower(k.has)) {
			return k.name
		}
	}
	if strings.Contains(plain, "redistribution and use in source and binary forms") {
		if strings.Contains(plain, "gnu general public license") {
			return "BSD-3-Clause (or GPL-2.0)" // a choice of the recipient's
		}
		if regexp.MustCompile(`neither the names? of|may be used to endorse or promote`).MatchString(plain) {
			return "BSD-3-Clause"
		}
		return "BSD-2-Clause"
	}
	return ""
}

// generate returns both texts.
func generate(root string) (text, notice string, err error) {
	modules, directories, err := linked(root)
	if err != nil {
		return "", "", err
	}
	var list []*component
	for path, c := range modules {
		if err := c.read(directories[path]); err != nil {
			return "", "", err
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *component) int { return strings.Compare(a.name, b.name) })
	where, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", "", fmt.Errorf("go env GOROOT: %w", err)
	}
	goes := &component{name: "Go", source: "https://go.dev/dl/"}
	if err := goes.read([]string{strings.TrimSpace(string(where))}); err != nil {
		return "", "", err
	}
	list = append([]*component{goes}, list...)
	crates, err := os.ReadFile(filepath.Join(root, "cmd/hypertoken/internal/licenses/crates.txt"))
	if err != nil {
		return "", "", err
	}

	var n strings.Builder
	n.WriteString(head)
	for _, c := range list {
		fmt.Fprintf(&n, "%s\n    %s, %s\n", strings.TrimSpace(c.name+" "+c.version), c.kind, c.source)
	}
	n.WriteString("\n" + string(crates))
	notice = n.String()

	var b strings.Builder
	b.WriteString(notice)
	b.WriteString("\nThe licences and notices follow. A text that several of them have is there once.\n")
	holders := map[string][]string{}
	var texts []string
	for _, c := range list {
		for _, t := range c.texts {
			if holders[t] == nil {
				texts = append(texts, t)
			}
			holders[t] = append(holders[t], c.name)
		}
	}
	for _, t := range texts {
		rule := strings.Repeat("=", 80)
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s\n", rule, strings.Join(slices.Compact(holders[t]), "\n"), rule, t)
	}
	return b.String(), notice, nil
}

const head = `HyperToken
Licensed under the Apache License, Version 2.0; the file LICENSE has it.

The program hypertoken contains software of others, unchanged. This list says where its source is. The Mozilla
Public License 2.0 (MPL-2.0) gives you the right to that source: it is the source of exactly the version that the
program is built from. All licences and notices are in cmd/hypertoken/internal/licenses/THIRD_PARTY.txt, and
'hypertoken version --licenses' prints them. The npm package, which the program serves with --demo, has notices of its
own, in browser/.

`
