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

// cacheEntry is what a cache has of one core: wazero's files, one for each version of it and kind
// of CPU, and beside each its checksum. wazero trusts what stands before the code in a file, such
// as where each function begins, so a damaged file must not get that far.
type cacheEntry struct {
	dir   string
	files wazero.CompilationCache
	sound map[string]bool // the files whose checksums were right
	// untrusted says what was found that is not this user's own. It is not there any more.
	untrusted error
	// unlock lets others compile the core. While it is held they wait, as long as that may take.
	unlock func()
}

const (
	sumSuffix = ".sum"
	tmpSuffix = ".tmp" // wazero's, while it writes a file
	// tmpAge is after what time somebody died while writing a file.
	tmpAge = time.Hour
	// compileTime is how long an entry waits for another process that compiles its core, before it compiles beside it.
	compileTime = 2 * time.Second
)

// openEntry opens an entry. Where there is something to compile, or to remove because it is damaged, that is for one
// process at a time: the others find it done. The caller calls unlock once it has compiled.
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

// trusts reports whether a file or directory is this user's own. What is not is taken away.
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
	// What others have in a directory of theirs is theirs to delete. The directory itself can be given another name.
	return false, ignoreMissing(os.Rename(path, fmt.Sprintf("%s.untrusted-%d", path, time.Now().UnixNano())))
}

// each calls f with every file but the checksums, as far as they can be trusted.
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
			return nil // somebody writes it
		}
		return remove(path)
	}
	if sound, err := e.isSound(path); sound || err != nil {
		return err
	}
	return errors.Join(remove(path), remove(path+sumSuffix))
}

// isSound holds a file against its checksum. One that another process has removed is not sound.
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

// stored writes the checksums of the files that have come since the entry was opened.
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

// sum reads a file in pieces: memory that is touched for the first time costs more here than what is computed over it.
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
