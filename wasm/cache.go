package wasm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/tetratelabs/wazero"
)

// Cache keeps compiled code in a directory, so that the next process need not compile again. The
// files there are run as code, so only their user may be able to write the directory.
//
// Any number of processes may share a directory. If the code of a core is missing, one of them
// compiles it while the others wait. An entry is either complete or not there. A damaged entry is
// removed and made again. So is an entry that somebody else owns or may write: it may be left from
// a time when others could write the directory. A nil Cache keeps nothing.
type Cache struct {
	dir string

	mu     sync.Mutex // guards the fields below
	opened []wazero.CompilationCache
	failed error
	// untrusted names the entry that was replaced because somebody else owned it or could write
	// it.
	untrusted error
}

// DefaultCacheDir returns the directory for compiled code of this user: hypertoken in
// [os.UserCacheDir].
func DefaultCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("wasm: no directory for compiled code: %w", err)
	}
	return filepath.Join(dir, "hypertoken"), nil
}

// OpenCache opens a cache, and makes its directory if it is missing. It fails if others may write
// the directory.
func OpenCache(dir string) (*Cache, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("wasm: cache: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("wasm: cache: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("wasm: cache: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("wasm: cache: %s is not a directory", dir)
	}
	if err := private(info); err != nil {
		return nil, fmt.Errorf("wasm: cache: %s %w, and what lies there would be run as code: delete it, or name another directory", dir, err)
	}
	return &Cache{dir: dir}, nil
}

// entry opens the cache's entry of this name: the compiled code of one core.
func (c *Cache) entry(name string) (*cacheEntry, error) {
	e, err := openEntry(filepath.Join(c.dir, name))
	c.mu.Lock()
	defer c.mu.Unlock()
	if e != nil && e.untrusted != nil {
		c.untrusted = fmt.Errorf("wasm: cache: %w", e.untrusted)
	}
	if err != nil {
		return nil, err
	}
	c.opened = append(c.opened, e.files)
	return e, nil
}

// note keeps the reason why a core was compiled without the cache.
func (c *Cache) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = fmt.Errorf("wasm: cache %s was not used: %w", c.dir, err)
}

// Err returns why the cache was not used, the last time that this happened. It returns nil if the
// cache was always used.
func (c *Cache) Err() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// Untrusted returns an error that names a file or directory of the cache that was replaced,
// because somebody else owned it or could write it. It returns nil if there was none.
func (c *Cache) Untrusted() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.untrusted
}

// Close frees the cache's memory; its files stay. Cores that were compiled with the cache must be
// closed before.
func (c *Cache) Close(ctx context.Context) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, files := range c.opened {
		errs = append(errs, files.Close(ctx))
	}
	c.opened = nil
	return errors.Join(errs...)
}
