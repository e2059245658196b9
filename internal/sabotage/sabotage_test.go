package sabotage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/format"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hypertoken/internal/sabotage"
)

const root = "../.."

func load(t *testing.T) []*sabotage.Breach {
	t.Helper()
	breaches, err := sabotage.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return breaches
}

// Each patch applies, and gives Go code that is formatted and compiles.
func TestEachBreachApplies(t *testing.T) {
	type broken struct {
		*sabotage.Breach
		files map[string][]byte
	}
	var applied []broken
	var folders []string
	for _, b := range load(t) {
		files, err := b.Apply(root)
		if err != nil {
			t.Error(err)
			continue
		}
		applied = append(applied, broken{b, files})
		for file, source := range files {
			folders = append(folders, path.Dir(file))
			if formatted, err := format.Source(source); err != nil {
				t.Errorf("%s: %s is no Go code: %v", b.Name, file, err)
			} else if !bytes.Equal(formatted, source) {
				t.Errorf("%s: %s is not formatted", b.Name, file)
			}
		}
	}
	slices.Sort(folders)
	c := newChecker(t, slices.Compact(folders))
	for _, b := range applied {
		for _, p := range c.packages {
			if err := c.check(p, b.files); err != nil {
				t.Errorf("%s does not compile: %v", b.Name, err)
			}
		}
	}
}

// checker checks the types of packages, with some of their files replaced. That is as good as
// compiling them, and fast.
type checker struct {
	files    *token.FileSet
	parsed   map[string]*ast.File // by path from the root
	imports  types.Importer
	packages []*goPackage
}

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath string
	Dir        string // from the root
	GoFiles    []string
	Export     string // the file that the compiler has written for the packages that import it
	DepOnly    bool
}

func newChecker(t *testing.T, folders []string) *checker {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export,DepOnly"}
	paths, err := sabotage.ImportPaths(root, folders)
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("go", append(args, paths...)...)
	list.Dir = root
	out, err := list.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("go list: %v: %s", err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{files: token.NewFileSet(), parsed: map[string]*ast.File{}}
	exports := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &goPackage{}
		if err := d.Decode(p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if p.DepOnly {
			continue
		}
		dir, err := filepath.Rel(absolute, p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		p.Dir = filepath.ToSlash(dir)
		for _, name := range p.GoFiles {
			file := p.Dir + "/" + name
			if c.parsed[file], err = parser.ParseFile(c.files, filepath.Join(root, file), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		c.packages = append(c.packages, p)
	}
	c.imports = importer.ForCompiler(c.files, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	for _, p := range c.packages {
		if err := c.checkAll(p, nil); err != nil {
			t.Fatalf("with nothing broken: %v", err)
		}
	}
	return c
}

// check checks a package if one of its files is replaced. Files for other systems are left out.
func (c *checker) check(p *goPackage, replaced map[string][]byte) error {
	for _, name := range p.GoFiles {
		if replaced[p.Dir+"/"+name] != nil {
			return c.checkAll(p, replaced)
		}
	}
	return nil
}

func (c *checker) checkAll(p *goPackage, replaced map[string][]byte) error {
	var files []*ast.File
	for _, name := range p.GoFiles {
		file := p.Dir + "/" + name
		parsed := c.parsed[file]
		if source := replaced[file]; source != nil {
			var err error
			if parsed, err = parser.ParseFile(c.files, file, source, 0); err != nil {
				return err
			}
		}
		files = append(files, parsed)
	}
	_, err := (&types.Config{Importer: c.imports}).Check(p.ImportPath, c.files, files, nil)
	return err
}

// Each guarantee has breaches, and each breach has tests that exist.
func TestTheCatalogueIsComplete(t *testing.T) {
	const least = 3
	count := map[int]int{}
	functions := map[string]string{} // the tests of a folder
	for _, b := range load(t) {
		count[b.Guarantee]++
		if b.What == "" || strings.Contains(b.What, "say what") {
			t.Errorf("%s does not say what is wrong", b.Path())
		}
		suites, err := b.Suites()
		if err != nil {
			t.Error(err)
		}
		for _, s := range suites {
			if functions[s.Folder] == "" {
				functions[s.Folder] = testFunctions(t, s.Folder)
			}
			first, _, _ := strings.Cut(s.Tests, "/")
			if !regexp.MustCompile(`(?m)` + first).MatchString(functions[s.Folder]) {
				t.Errorf("%s has no test that matches %s: correct internal/sabotage/suites.go", s.Folder, first)
			}
		}
	}
	for n := 1; n < len(sabotage.Guarantees); n++ {
		if count[n] < least {
			t.Errorf("guarantee %d (%s) has %d breaches: it needs %d", n, sabotage.Guarantees[n], count[n], least)
		}
	}
}

// testFunctions returns the names of a folder's tests, a line each.
func testFunctions(t *testing.T, folder string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names strings.Builder
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(source, -1) {
			names.Write(m[1])
			names.WriteByte('\n')
		}
	}
	return names.String()
}

// No code but this folder's knows of the breaches.
func TestTheProductKnowsNothingOfThis(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains([]string{".git", "node_modules", "target", "sabotage"}, e.Name()):
			return fs.SkipDir
		case !e.Type().IsRegular() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		seen++
		for _, i := range f.Imports {
			if strings.Contains(i.Path.Value, "internal/sabotage") {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Errorf("only %d files were looked at", seen)
	}
}
