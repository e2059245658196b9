//go:build linux || darwin

package wasm

import (
	"context"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// withMemory returns a context that gives an instance memory outside Go's heap. Its address space
// is reserved up to its bound, and becomes usable as the memory grows. So growing copies nothing,
// the garbage collector does not see the memory, and release gives it back to the system at once.
// wazero frees a memory while its bytes can still be reached, so only release frees it; the
// instance calls release last.
func withMemory(ctx context.Context) (_ context.Context, release func()) {
	var memory *reservedMemory
	allocate := func(_, max uint64) experimental.LinearMemory {
		if memory = reserve(max); memory == nil {
			return &heapMemory{} // no address space is left: the memory is on Go's heap, as wazero's own is
		}
		return memory
	}
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(allocate)), func() {
		if memory != nil {
			_ = syscall.Munmap(memory.all)
			memory = nil
		}
	}
}

func reserve(max uint64) *reservedMemory {
	b, err := syscall.Mmap(-1, 0, int(max), syscall.PROT_NONE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	return &reservedMemory{all: b}
}

type reservedMemory struct {
	all    []byte
	usable uint64
}

// Reallocate makes the first size bytes usable, and a quarter more: each step is a system call, so
// there should be few.
func (m *reservedMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	if size > m.usable {
		usable := min(size+size/4, uint64(len(m.all))) &^ (pageSize - 1)
		usable = max(usable, size)
		if syscall.Mprotect(m.all[:usable], syscall.PROT_READ|syscall.PROT_WRITE) != nil {
			return nil
		}
		m.usable = usable
	}
	return m.all[:size:size]
}

func (m *reservedMemory) Free() {}

type heapMemory struct{ b []byte }

func (m *heapMemory) Reallocate(size uint64) []byte {
	if grow := int(size) - len(m.b); grow > 0 {
		m.b = append(m.b, make([]byte, grow)...)
	}
	return m.b[:size]
}

func (m *heapMemory) Free() {}
