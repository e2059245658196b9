// Command rename gives this module another import path, for those who publish it under a path of their own: it rewrites
// go.mod, and the path wherever code, tests and documents name it. It runs in the root of the module, as `make rename`
// does.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 || os.Args[1] == "" {
		fmt.Fprintln(os.Stderr, "rename MODULE: give this module the import path MODULE; make rename MODULE=example.org/name")
		os.Exit(2)
	}
	n, err := rename(".", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "rename:", err)
		os.Exit(1)
	}
	fmt.Printf("the module is %s: %d files were changed\n", os.Args[1], n)
}

// others are folders whose files name no module: those of tools, and what is built or downloaded.
var others = []string{".git", "node_modules", "target", "bin", "dist"}

// rename returns how many files it has changed.
func rename(root, path string) (changed int, err error) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return 0, fmt.Errorf("this is no root of a module: %w", err)
	}
	declared := regexp.MustCompile(`(?m)^module (\S+)$`).FindSubmatch(mod)
	if declared == nil {
		return 0, errors.New("go.mod has no line that begins with module")
	}
	old := string(declared[1])
	// The go command knows which paths may be.
	edit := exec.Command("go", "mod", "edit", "-module", path)
	edit.Dir = root
	if out, err := edit.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%q is no path for a module: %s", path, bytes.TrimSpace(out))
	}
	named, directed := mentions(old), directives(old)
	err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains(others, e.Name()):
			return fs.SkipDir
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(name)
		named, after := named, "${2}"
		if e.Name() == "go.mod" {
			named, after = directed, "${2}${3}"
		}
		if err != nil || bytes.IndexByte(b, 0) >= 0 || !named.Match(b) {
			return err
		}
		b = named.ReplaceAll(b, []byte("${1}"+strings.ReplaceAll(path, "$", "$$")+after))
		if strings.HasSuffix(name, ".go") {
			if b, err = format.Source(b); err != nil { // imports are sorted by their paths
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		changed++
		return os.WriteFile(name, b, info.Mode())
	})
	return changed + 1, err
}

// mentions matches a module's path at the places where it names the module: before a package's
// folder, a version, or a replacement by a folder. It is no part of another path, as of
// ./cmd/hypertoken or /hypertoken/hypertoken.js.
func mentions(path string) *regexp.Regexp {
	return regexp.MustCompile(`(^|[^\w./-])` + regexp.QuoteMeta(path) + `(/[a-z]|/"|@v\d|=\.\.?/)`)
}

// directives matches a module's path in the lines of a go.mod file, where the modules of the folders
// below require and replace it, and it requires and replaces them.
func directives(path string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)(^module |^require |^replace |^\t)` + regexp.QuoteMeta(path) + `(/[a-z/]+)?( v\d| =>|$)`)
}
