package ipc

import (
	"errors"
	"io"
	"testing"
	"time"
)

// steps is a source whose calls return given numbers of bytes.
type steps struct {
	tries []int // the results of TryRead; the last one is repeated for ever
	tried int
	reads int
	after time.Duration // the time that a Read takes
	err   error
}

func (s *steps) TryRead([]byte) (int, error) {
	n := s.tries[min(s.tried, len(s.tries)-1)]
	s.tried++
	if n < 0 {
		return 0, s.err
	}
	return n, nil
}

func (s *steps) Read([]byte) (int, error) {
	s.reads++
	for began := time.Now(); time.Since(began) < s.after; {
		yield()
	}
	return 7, s.err
}

func TestASpinnerPollsAsLongAsItPays(t *testing.T) {
	s := Spinner{For: time.Millisecond}
	// Bytes that come at once are polled for.
	soon := &steps{tries: []int{0, 0, 0, 5}}
	for range 3 {
		soon.tried = 0
		if n, err := s.Read(soon, nil); n != 5 || err != nil || soon.reads > 0 || !s.Pays() {
			t.Fatalf("%d bytes, %v, after %d parks", n, err, soon.reads)
		}
	}
	// Bytes that come late are polled for twice in vain, and not again.
	late := &steps{tries: []int{0}, after: 2 * s.For}
	for k := range patience {
		if !s.Pays() {
			t.Fatalf("it gave up after %d times", k)
		}
		if n, err := s.Read(late, nil); n != 7 || err != nil || late.reads != k+1 {
			t.Fatalf("%d bytes, %v, after %d parks", n, err, late.reads)
		}
	}
	before := late.tried
	if _, _ = s.Read(late, nil); late.tried != before || s.Pays() {
		t.Fatalf("it polled %d times more", late.tried-before)
	}
	// Bytes that would have been caught are worth it again.
	if _, _ = s.Read(&steps{tries: []int{0}}, nil); !s.Pays() {
		t.Error("it does not poll again")
	}
}

func TestASpinnerThatMayNotPollParks(t *testing.T) {
	s, from := Spinner{}, &steps{tries: []int{5}}
	if n, err := s.Read(from, nil); n != 7 || err != nil || from.tried != 0 {
		t.Errorf("%d bytes, %v, after %d polls", n, err, from.tried)
	}
}

func TestASpinnerReportsTheEnd(t *testing.T) {
	s, from := Spinner{For: time.Hour}, &steps{tries: []int{0, -1}, err: io.EOF}
	if n, err := s.Read(from, nil); n != 0 || !errors.Is(err, io.EOF) || from.reads > 0 {
		t.Errorf("%d bytes, %v, after %d parks", n, err, from.reads)
	}
}
