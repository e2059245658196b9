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

// ErrLine is matched by the errors that concern one line only. After such an error, reading goes
// on.
var ErrLine = errors.New("bad line")

// LineError is the error for a line that can't be used. It matches [ErrLine].
type LineError struct {
	Message string
	// Long is true if the line was longer than the reader's bound.
	Long bool
	// Setup is true if the line was probably meant to be a setup.
	Setup bool
}

func (e *LineError) Error() string { return e.Message }

// Is reports whether the target is [ErrLine].
func (e *LineError) Is(target error) bool { return target == ErrLine }

// Line is a line of input.
type Line struct {
	// Number counts lines from 1.
	Number int
	// Text is the line without its newline. If the line is too long, Text is its beginning.
	Text []byte
	cut  bool // whether the input ended without a newline after the line
}

// beginning is how much is kept of a line that is too long, in bytes.
const beginning = 64

// setupForm matches the beginning of a setup. It also matches a line that was meant to be a setup:
// one with something before the object, such as a byte order mark, with other members of a setup
// first, or with wrong quotes or none.
var setupForm = regexp.MustCompile(`^[^{"]*\{\s*` +
	`("timeout"\s*:[^,{}"]*,\s*|"want"\s*:\s*\[[^\]{}]*\]\s*,\s*)*` + `["']?(setup|snapshot|marker)["']?\s*:`)

// IsSetup reports whether a line begins like a setup. It does not look at the rest of the line.
func (l Line) IsSetup() bool { return setupForm.Match(l.Text) }

// byteOrderMark is written before UTF-8 by some editors and shells.
var byteOrderMark = []byte("\ufeff")

// Reader reads lines up to a bound of bytes. A longer line is skipped to its end. Blank lines are
// skipped, and so is a byte order mark at the start of the input.
type Reader struct {
	in     *bufio.Reader
	max    int
	flag   string
	number int
	begun  bool
}

// NewReader returns a reader of lines of at most max bytes. flag is the flag that sets this bound;
// the error for a longer line names it.
func NewReader(in io.Reader, max int, flag string) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), max: max, flag: flag}
}

// Reset makes the reader go on with other input. The numbers of lines continue.
func (l *Reader) Reset(in io.Reader) {
	l.in.Reset(in)
	l.begun = false
}

// Next returns the next line that is not blank. The caller owns the line. At the end of the input
// the error is io.EOF. For a line that is too long it matches [ErrLine]. Any other error means
// that the input can't be read.
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
