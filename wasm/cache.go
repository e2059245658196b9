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

// Cache keeps compiled code in a directory, so that the next process need not compile again. What
// lies there is run as code, so the directory must be writable by its user alone. Any number of
// processes may share one: one of them compiles what is missing while the others wait, entries
// appear whole or not at all, and one that is damaged is removed and made anew. So is one that
// somebody else owns or may write, as may lie in a directory that others could write before. A nil
// Cache keeps nothing.
type Cache struct {
	dir string

	mu     sync.Mutex // guards what follows
	opened []wazero.CompilationCache
	failed error
	// untrusted says which entry was replaced because it was not this user's own.
	untrusted error
}

// DefaultCacheDir returns the directory for compiled code of this user: hypertoken in [os.UserCacheDir].
func DefaultCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("wasm: no directory for compiled code: %w", err)
	}
	return filepath.Join(dir, "hypertoken"), nil
}

// OpenCache opens a cache, and makes its directory where it is missing. It fails where others may write there.
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

// entry opens what the cache has of a core, under a name of its own.
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

// note remembers that compiling went on without the cache.
func (c *Cache) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = fmt.Errorf("wasm: cache %s was not used: %w", c.dir, err)
}

// Err returns why the cache was not used the last time it was not, or nil.
func (c *Cache) Err() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// Untrusted returns an error that names what was found in the cache, and replaced, because somebody
// else owned it or could write it; nil if there was nothing of the kind.
func (c *Cache) Untrusted() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.untrusted
}

// Close frees what is held in memory; the files stay. Cores compiled with the cache must be closed before.
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
