package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// Texts for standard error are written in order, also if its reader falls behind. Texts that do
// not fit are dropped and counted.
func TestDiagnosticsNeverBlock(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &diagnostics{file: out}
	line := []byte(strings.Repeat("x", 1<<10-1) + "\n")
	const lines = 3 * maxQueued >> 10
	for range lines { // nobody reads
		if n, err := d.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	read := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(in)
		read <- b
	}()
	d.flush(time.Hour)
	_, _ = d.Write([]byte("the end\n"))
	d.flush(time.Hour)
	_ = out.Close()
	got := bytes.Split(<-read, []byte("\n"))
	dropped := lines - maxQueued>>10
	last := got[len(got)-3:]
	// The goroutine that writes may have taken a few lines before the queue was full.
	if n := len(got) - 3; n < maxQueued>>10 || n == lines || !bytes.HasPrefix(last[0], []byte("hypertoken: ")) ||
		!bytes.HasSuffix(last[0], []byte("messages were dropped: standard error was not read")) ||
		string(last[1]) != "the end" {
		t.Errorf("%d lines of %d, of which at most %d are dropped, and then %q", n, lines, dropped, last)
	}
}

// A reader that does not read holds up the end for so long, and not longer.
func TestDiagnosticsGiveUp(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = in.Close(), out.Close() }()
	d := &diagnostics{file: out}
	d.flush(time.Hour) // there is nothing to wait for
	_, _ = d.Write(make([]byte, maxQueued))
	d.flush(time.Millisecond)
	_ = in.Close()
	d.flush(time.Hour)
}
