package jsonl

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/dustin/go-humanize"
)

// ErrLine is matched by errors of one line, after which reading goes on.
var ErrLine = errors.New("bad line")

// LineError is why a line can't be used. It is [ErrLine].
type LineError struct {
	Message string
	// Long says that the line was above the reader's bound.
	Long bool
	// Setup says that the line was to be a setup, as far as can be told.
	Setup bool
}

func (e *LineError) Error() string { return e.Message }

// Is reports whether the target is [ErrLine].
func (e *LineError) Is(target error) bool { return target == ErrLine }

// Line is a line of input.
type Line struct {
	// Number counts lines from 1.
	Number int
	// Text is the line without its newline. Of a line that is too long it is the beginning.
	Text []byte
	cut  bool // ended by the end of input
}

// beginning is how much is kept of a line that is too long, in bytes.
const beginning = 64

// setupForm is how a setup begins, or what was meant to be one: with something in front of the
// object, such as a byte order mark, with other members that a setup may have, or with wrong quotes
// or none.
var setupForm = regexp.MustCompile(`^[^{"]*\{\s*` +
	`("timeout"\s*:[^,{}"]*,\s*|"want"\s*:\s*\[[^\]{}]*\]\s*,\s*)*` + `["']?setup["']?\s*:`)

// IsSetup reports whether a line begins as a setup does, whatever follows.
func (l Line) IsSetup() bool { return setupForm.Match(l.Text) }

// byteOrderMark is what some editors and shells write in front of UTF-8.
var byteOrderMark = []byte("\ufeff")

// Reader reads lines of at most a bound. One that is longer is skipped to its end. A byte order
// mark at the start of the input and blank lines are skipped too.
type Reader struct {
	in     *bufio.Reader
	max    int
	flag   string
	number int
	begun  bool
}

// NewReader returns a reader of lines of at most max bytes; flag is what sets that, for the error
// of a line that is longer.
func NewReader(in io.Reader, max int, flag string) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), max: max, flag: flag}
}

// Reset makes the reader go on with other input. The numbers of lines go on too.
func (l *Reader) Reset(in io.Reader) {
	l.in.Reset(in)
	l.begun = false
}

// Next returns the next line that is not blank. The line is the caller's. The error is io.EOF at
// the end, one that is [ErrLine] for a line that is too long, or another one for input that can't
// be read.
func (l *Reader) Next() (Line, error) {
	for {
		line, err := l.next()
		if err != nil || len(bytes.Trim(line.Text, " \t\r")) > 0 {
			return line, err
		}
	}
}

func (l *Reader) next() (Line, error) {
	l.number++
	line := Line{Number: l.number}
	long, read := false, 0
	for {
		part, err := l.in.ReadSlice('\n')
		read += len(part)
		if !l.begun {
			part, l.begun = bytes.TrimPrefix(part, byteOrderMark), true
		}
		end := err == nil
		if end {
			part = part[:len(part)-1]
		}
		if !long && len(line.Text)+len(part) > l.max {
			long = true
			line.Text = append(line.Text, part[:min(len(part), beginning)]...)
			line.Text = bytes.Clone(line.Text[:min(len(line.Text), beginning)])
		}
		if !long {
			line.Text = append(line.Text, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && read == 0:
			l.number--
			return line, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return line, fmt.Errorf("reading the input: %w", err)
		}
		line.cut = !end
		if long {
			message := fmt.Sprintf("it is longer than %s (%s) and was skipped", humanize.IBytes(uint64(l.max)), l.flag)
			return line, &LineError{Message: message, Long: true, Setup: line.IsSetup()}
		}
		return line, nil
	}
}
