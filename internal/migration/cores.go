package migration

import (
	"context"
	"errors"

	"hypertoken/internal/fault"
	"hypertoken/wasm"
)

// Cores are the cores that wrote journals, each compiled once. Create them with NewCores.
type Cores struct {
	own         string // the hash of the host's core
	memoryLimit uint64
	given       map[string][]byte     // by their hashes
	turn        chan struct{}         // has one token; its holder uses compiled
	compiled    map[string]*wasm.Core // by their hashes
}

// NewCores returns cores of which given are known already. own is the hash of the host's core, for
// errors. An instance of a core takes memoryLimit bytes at most. The caller calls Close.
func NewCores(own string, given [][]byte, memoryLimit uint64) *Cores {
	c := &Cores{own: own, memoryLimit: memoryLimit, given: map[string][]byte{}, turn: make(chan struct{}, 1),
		compiled: map[string]*wasm.Core{}}
	for _, code := range given {
		c.given[wasm.Hash(code)] = code
	}
	c.turn <- struct{}{}
	return c
}

// Get returns the compiled core of a hash. If the core is not one of those that were given, stored has
// to return its code, or nil if the store does not have it. Get fails with ErrCoreMismatch if nobody
// has the core, if it is another one than its hash says, or if it can't be run. what names the call in
// errors. The core is closed by Close.
func (c *Cores) Get(ctx context.Context, what, hash string, stored func() ([]byte, error)) (*wasm.Core, error) {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, fault.Ended(ctx, what)
	}
	if core := c.compiled[hash]; core != nil {
		return core, nil
	}
	code := c.given[hash]
	if code == nil {
		var err error
		if code, err = stored(); err != nil {
			return nil, err
		}
		if code != nil && wasm.Hash(code) != hash {
			return nil, fault.ErrCoreMismatch.With("%s: the store has the core %s under the hash %s of another one", what,
				wasm.Hash(code), hash)
		}
	}
	if code == nil {
		return nil, fault.ErrCoreMismatch.With("%s: its journal was written by the core %s, which the store does not "+
			"have, and can't be replayed by %s: add that one to Options.Cores", what, hash, c.own)
	}
	core, err := wasm.Compile(ctx, code, wasm.Options{Interruptible: true, MemoryLimit: c.memoryLimit})
	switch {
	case ctx.Err() != nil:
		return nil, fault.Ended(ctx, what)
	case err != nil:
		return nil, fault.ErrCoreMismatch.Because(err, "%s: the core %s, which wrote its journal, can't be run: %v",
			what, hash, err)
	}
	c.compiled[hash] = core
	return core, nil
}

// Close frees the compiled cores. No call of Get is under way, and none comes.
func (c *Cores) Close(ctx context.Context) error {
	var errs []error
	for _, core := range c.compiled {
		errs = append(errs, core.Close(ctx))
	}
	return errors.Join(errs...)
}
