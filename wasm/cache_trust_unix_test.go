//go:build unix

package wasm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file of a cache that belongs to another user, or that others may write, is not run. It is
// replaced, and Untrusted names it.
func TestACacheEntryOfOthersIsReplaced(t *testing.T) {
	const other = 65534
	chown := func(path string) error { return os.Lchown(path, other, other) }
	for _, c := range []struct {
		name string
		root bool // it takes root to plant it
		// plant makes an entry, its directory or its checksum untrusted.
		plant func(file string) error
		says  string
	}{
		{"a file of another user", true, chown, "belongs to user 65534"},
		{"a checksum of another user", true, func(f string) error { return chown(f + sumSuffix) }, "belongs to user 65534"},
		{"a directory of another user", true, func(f string) error { return chown(filepath.Dir(f)) }, "belongs to user 65534"},
		{"an entry of another user", true, func(f string) error { return chown(filepath.Dir(filepath.Dir(f))) }, "belongs to user 65534"},
		{"a file that others may write", false, func(f string) error { return os.Chmod(f, 0o620) }, "has mode 0620"},
		{"a checksum that others may write", false, func(f string) error { return os.Chmod(f+sumSuffix, 0o602) }, "has mode 0602"},
		{"a directory that others may write", false, func(f string) error { return os.Chmod(filepath.Dir(f), 0o777) }, "has mode 0777"},
		{"an entry that others may write", false, func(f string) error { return os.Chmod(filepath.Dir(filepath.Dir(f)), 0o730) }, "has mode 0730"},
		{"a link in the place of a file", false, func(f string) error { return link(f) }, "is neither a file nor a directory"},
		{"a link in the place of an entry", false, func(f string) error { return link(filepath.Dir(filepath.Dir(f))) }, "is neither a file nor a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("only root can give a file to another user")
			}
			dir := filepath.Join(t.TempDir(), "cache")
			compile := func() error {
				t.Helper()
				cache, err := OpenCache(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = cache.Close(t.Context()) }()
				core, err := Compile(t.Context(), small, Options{Cache: cache})
				if err != nil {
					t.Fatal(err)
				}
				_ = core.Close(t.Context())
				if err := cache.Err(); err != nil {
					t.Error(err)
				}
				return cache.Untrusted()
			}
			if err := compile(); err != nil {
				t.Fatal(err)
			}
			found, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.sum"))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			file := strings.TrimSuffix(found[0], sumSuffix)
			planted := time.Now().Add(-time.Hour)
			if err := os.Chtimes(file, planted, planted); err != nil {
				t.Fatal(err)
			}
			if err := c.plant(file); err != nil {
				t.Fatal(err)
			}
			if err := compile(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			after, err := os.Lstat(file)
			if err != nil || time.Since(after.ModTime()) > time.Since(planted)/2 || !after.Mode().IsRegular() ||
				private(after) != nil {
				t.Errorf("the entry was not made anew: %v, %v", after, err)
			}
			if err := compile(); err != nil {
				t.Errorf("the new one is not trusted: %v", err)
			}
		})
	}
}

// link renames a file or directory, and puts a link to it in its place.
func link(path string) error {
	if err := os.Rename(path, path+".moved"); err != nil {
		return err
	}
	return os.Symlink(path+".moved", path)
}
