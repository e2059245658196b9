package coredev

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corers "hypertoken/core-rs"
)

//go:embed template
var template embed.FS

// files has the path in the crate of each file of the template.
var files = []struct{ from, to string }{
	{"Cargo.toml.tmpl", "Cargo.toml"},
	{"config.toml.tmpl", ".cargo/config.toml"},
	{"gitignore.tmpl", ".gitignore"},
	{"README.md.tmpl", "README.md"},
	{"lib.rs.tmpl", "src/lib.rs"},
	{"test.rs.tmpl", "tests/actions.rs"},
	{"deal.jsonl.tmpl", "tests/deal.jsonl"},
	{"deal.want.tmpl", "tests/deal.want"},
}

const maxName = 64

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// taken are names that cargo or rustc refuse for a package, and families of built-in actions.
var taken = strings.Fields(
	`abstract alloc as async await become box break build const continue core crate debug deps do dyn
	else enum examples extern false final fn for gen
	hypertoken-core if impl in incremental let loop macro match mod move mut
	override priv proc_macro pub ref return self static std struct super test trait true try type typeof unsafe unsized
	use virtual where while yield agent game rule serde source space stack token tokens`)

// checkName fails if a crate can't have this name.
func checkName(name string) error {
	switch {
	case name == "":
		return usage("the name is empty: want one such as my-game")
	case len(name) > maxName:
		return usage("the name %.20q... has %d characters, above %d", name, len(name), maxName)
	case !nameForm.MatchString(name):
		return usage(
			"%q is no name for a core: want a lower-case letter, then lower-case letters, digits, - and _", name)
	case slices.Contains(taken, name), slices.Contains(taken, strings.ReplaceAll(name, "-", "_")):
		return usage("%q is taken, by Rust or by the built-in actions: want another name, such as my-%s", name, name)
	}
	return nil
}

// Source is the place from which a new crate gets hypertoken-core: a directory, or a Git
// repository.
type Source struct{ Path, Git string }

// Create writes the crate of a core into a directory that does not exist or is empty; its last
// element is the crate's name. It returns the files' names, relative to the directory.
func Create(dir string, from Source) ([]string, error) {
	name := filepath.Base(dir)
	if err := checkName(name); err != nil {
		return nil, err
	}
	dependency := "git = " + strconv.Quote(from.Git)
	if from.Git == "" {
		path, err := libraryPath(dir, from.Path)
		if err != nil {
			return nil, err
		}
		dependency = "path = " + strconv.Quote(path)
	}
	switch entries, err := os.ReadDir(dir); {
	case err == nil && len(entries) > 0:
		return nil, usage("%s exists already, with %d entries, and nothing is overwritten: "+
			"choose another name, or remove it",
			dir, len(entries))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, usage("%s exists already, and is not a directory", dir)
	}
	fill := strings.NewReplacer("@NAME@", name, "@CRATE@", strings.ReplaceAll(name, "-", "_"), "@DEPENDENCY@",
		dependency)
	var written []string
	write := func(to string, text []byte) error {
		path := filepath.Join(dir, filepath.FromSlash(to))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		written = append(written, to)
		return os.WriteFile(path, text, 0o644)
	}
	for _, f := range files {
		text, err := template.ReadFile("template/" + f.from)
		if err == nil {
			err = write(f.to, []byte(fill.Replace(string(text))))
		}
		if err != nil {
			return written, fmt.Errorf("writing %s: %w", f.to, err)
		}
	}
	if from.Git == "" {
		// The list has the versions with which the core was tested. Cargo completes it, and drops
		// crates that are not needed.
		if err := write("Cargo.lock", corers.Lock); err != nil {
			return written, fmt.Errorf("writing Cargo.lock: %w", err)
		}
	}
	return written, nil
}

// libraryPath is how the manifest in a directory names the crate in another: relative if both lie
// in one checkout, so that it may be moved as a whole, absolute otherwise.
func libraryPath(dir, path string) (string, error) {
	if name, err := Package(path); err != nil || name != library {
		return "",
			usage("--path: %s does not hold the crate %s (%s): want the directory core-rs of a checkout of HyperToken",
				path, library, filepath.Join(path, "Cargo.toml"))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	checkout := filepath.Dir(path)
	if inside, err := filepath.Rel(checkout, dir); err == nil && filepath.IsLocal(inside) {
		if path, err = filepath.Rel(dir, path); err != nil {
			return "", err
		}
	}
	return filepath.ToSlash(path), nil
}
