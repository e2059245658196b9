// Package printable makes text from elsewhere fit for a terminal: what a file, a core or a server says may hold escape sequences
// that move the cursor, change the title or the colours, or forge a line.
package printable

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns s as one line of printable characters, at most max of them, or of any length if max is 0. A newline or a tab
// becomes a space, and any other character that is not printable becomes a question mark.
func Line(s string, max int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; max > 0 && n > max {
			b.WriteRune('…')
			break
		}
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			b.WriteRune(r)
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}

// Text is [Line] for text of several lines: each line becomes printable, of any length.
func Text(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = Line(lines[i], 0)
	}
	return strings.Join(lines, "\n")
}

// AppendJSON appends JSON to out with the characters escaped that steer a terminal and that JSON lets stand: the controls
// from U+007F to U+009F, and those that change the direction of text. The JSON means the same.
func AppendJSON(out, text []byte) []byte {
	for {
		at := bytes.IndexFunc(text, steers)
		if at < 0 {
			return append(out, text...)
		}
		r, size := utf8.DecodeRune(text[at:])
		out = fmt.Appendf(append(out, text[:at]...), "\\u%04x", r)
		text = text[at+size:]
	}
}

// steers reports whether JSON lets a character stand that steers a terminal.
func steers(r rune) bool {
	return r >= 0x7f && r <= 0x9f || unicode.Is(unicode.Bidi_Control, r)
}
