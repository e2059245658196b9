package ipc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

func pipes(t *testing.T) (in, out *Pipe) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if in, err = NewPipe(r); err != nil {
		t.Fatal(err)
	}
	if out, err = NewPipe(w); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = out.Close()
	})
	return in, out
}

// Bytes that do not fit into a pipe follow in order, as the pipe is read. A waiting reader gets
// them, and then the end.
func TestAPipeCarriesMoreThanItHolds(t *testing.T) {
	in, out := pipes(t)
	sent := make([]byte, 1<<20)
	for k := range sent {
		sent[k] = byte(k >> 8)
	}
	done := make(chan error, 1)
	n, err := out.TryWrite(sent)
	if err != nil || n == len(sent) {
		t.Fatalf("%d bytes at once, %v", n, err)
	}
	out.WriteAll(sent[n:], func(err error) {
		done <- errors.Join(err, out.Close())
	})
	var got []byte
	for b := make([]byte, 1000); ; {
		n, err := in.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came, %d were sent", len(got), len(sent))
	}
	if n, err := in.TryRead(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %d bytes, %v", n, err)
	}
}

func TestATryOnAnEmptyPipeReturnsAtOnce(t *testing.T) {
	in, _ := pipes(t)
	if n, err := in.TryRead(make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// The next file that is opened gets the number of a closed descriptor. So calls of a closed pipe
// must not use the descriptor any more.
func TestAClosedPipeLeavesItsDescriptorAlone(t *testing.T) {
	in, out := pipes(t)
	if err := errors.Join(in.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(r.Close(), w.Close()) }()
	for range 2 {
		if _, err := in.TryRead(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("reading: %v", err)
		}
		if _, err := out.TryWrite([]byte{1}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("writing: %v", err)
		}
		if err := errors.Join(in.Close(), out.Close()); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.Write([]byte{1}); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// Calls that wait end when the pipe is closed, and no call uses its descriptor afterwards.
func TestClosingAPipeEndsCalls(t *testing.T) {
	in, out := pipes(t)
	ended := make(chan error)
	go func() {
		_, err := in.Read(make([]byte, 1))
		ended <- err
	}()
	full := make([]byte, 1<<20)
	n, err := out.TryWrite(full)
	if err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	if err := <-ended; err == nil {
		// The read got bytes that were there before the pipe was closed.
		if _, err = in.Read(full); err == nil {
			t.Error("a closed pipe can be read")
		}
	}
	out.WriteAll(full[n:], func(err error) { ended <- err })
	if err := <-ended; err == nil {
		t.Error("a pipe without a reader can be written")
	}
	for range 2 {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := in.TryRead(full); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading: %v", err)
	}
}
