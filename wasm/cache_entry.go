package wasm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/tetratelabs/wazero"
)

// cacheEntry is the directory of a cache for one core. It has wazero's files, one for each version
// of wazero and each kind of CPU, and a checksum for each file. wazero does not check the head of
// a file, which says for example where each function begins. So a damaged file must not get to
// wazero.
type cacheEntry struct {
	dir   string
	files wazero.CompilationCache
	sound map[string]bool // the files whose checksums were right
	// untrusted names a file or directory that somebody else owned or could write. It was taken
	// away.
	untrusted error
	// unlock releases the lock of the entry. Until then, other processes that want to compile the
	// core wait, for at most compileTime.
	unlock func()
}

const (
	sumSuffix = ".sum"
	tmpSuffix = ".tmp" // the suffix of a file while wazero writes it
	// tmpAge is the age after which a file with that suffix is removed: the process that wrote it
	// has died.
	tmpAge = time.Hour
	// compileTime is how long a process waits for another one that compiles the core. Then it
	// compiles the core itself.
	compileTime = 2 * time.Second
)

// openEntry opens an entry. If the core must be compiled, or a damaged file must be removed, it
// locks the entry: one process does it, and the others wait and find it done. The caller calls
// unlock once it has compiled the core.
func openEntry(dir string) (*cacheEntry, error) {
	e := &cacheEntry{dir: dir, sound: map[string]bool{}, unlock: func() {}}
	err := e.makeDirectory()
	if err != nil {
		return e, err
	}
	whole := true
	err = e.each(func(path string, _ fs.DirEntry) error {
		sound, err := e.isSound(path)
		whole = whole && sound
		return err
	})
	if err == nil && (!whole || len(e.sound) == 0) {
		e.unlock = lock(dir, compileTime)
		err = e.each(e.check)
	}
	if err == nil {
		naming.Lock()
		e.files, err = wazero.NewCompilationCacheWithDir(dir)
		naming.Unlock()
	}
	if err != nil {
		e.unlock()
	}
	return e, err
}

// makeDirectory makes the entry's directory, unless there is one that can be trusted.
func (e *cacheEntry) makeDirectory() error {
	for range 2 {
		err := os.Mkdir(e.dir, 0o700)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		info, err := os.Lstat(e.dir)
		if err != nil {
			return err
		}
		if trusted, err := e.trusts(e.dir, info); trusted || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is made by others again and again", e.dir)
}

// trusts reports whether a file or directory belongs to this user, and nobody else may write it.
// If not, it is taken away.
func (e *cacheEntry) trusts(path string, info fs.FileInfo) (bool, error) {
	var why error
	switch {
	case !info.IsDir() && !info.Mode().IsRegular():
		why = errors.New("is neither a file nor a directory")
	case path == e.dir && !info.IsDir():
		why = errors.New("is no directory")
	default:
		why = private(info)
	}
	if why == nil {
		return true, nil
	}
	e.untrusted = fmt.Errorf("%s %w, and might have been run as code", path, why)
	if os.RemoveAll(path) == nil {
		return false, nil
	}
	// It can't be deleted if it is a directory that has files of another user. But it can be
	// renamed.
	return false, ignoreMissing(os.Rename(path, fmt.Sprintf("%s.untrusted-%d", path, time.Now().UnixNano())))
}

// each calls f with every file that can be trusted, except for the checksums.
func (e *cacheEntry) each(f func(path string, d fs.DirEntry) error) error {
	return filepath.WalkDir(e.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		switch trusted, err := e.trusts(path, info); {
		case err != nil:
			return err
		case !trusted && d.IsDir():
			return fs.SkipDir
		case !trusted || d.IsDir() || strings.HasSuffix(path, sumSuffix):
			return nil
		}
		return f(path, d)
	})
}

func (e *cacheEntry) check(path string, d fs.DirEntry) error {
	if strings.HasSuffix(path, tmpSuffix) {
		if info, err := d.Info(); err != nil || time.Since(info.ModTime()) < tmpAge {
			return nil // a process may still be writing it
		}
		return remove(path)
	}
	if sound, err := e.isSound(path); sound || err != nil {
		return err
	}
	return errors.Join(remove(path), remove(path+sumSuffix))
}

// isSound reports whether a file has its checksum. It returns false for a file that another
// process has removed.
func (e *cacheEntry) isSound(path string) (bool, error) {
	if e.sound[path] {
		return true, nil
	}
	got, err := sum(path)
	if err != nil {
		return false, ignoreMissing(err)
	}
	info, err := os.Lstat(path + sumSuffix)
	if err != nil {
		return false, ignoreMissing(err)
	}
	if trusted, err := e.trusts(path+sumSuffix, info); !trusted || err != nil {
		return false, err
	}
	want, err := os.ReadFile(path + sumSuffix)
	if err = ignoreMissing(err); err != nil {
		return false, err
	}
	if string(want) == got {
		e.sound[path] = true
	}
	return e.sound[path], nil
}

// stored writes the checksums of the files that were added since the entry was opened.
func (e *cacheEntry) stored() error {
	return ignoreMissing(e.each(func(path string, _ fs.DirEntry) error {
		if e.sound[path] || strings.HasSuffix(path, tmpSuffix) {
			return nil
		}
		s, err := sum(path)
		if err != nil {
			return ignoreMissing(err)
		}
		return os.WriteFile(path+sumSuffix, []byte(s), 0o600)
	}))
}

// sum returns the checksum of a file. It reads the file in pieces into one small buffer: touching
// new memory for the whole file would take longer than computing the checksum.
func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := xxhash.New()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 64<<10))
	return fmt.Sprintf("%016x", h.Sum64()), err
}

func remove(path string) error { return ignoreMissing(os.Remove(path)) }

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
