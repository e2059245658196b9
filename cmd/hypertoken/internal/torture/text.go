package torture

import (
	"fmt"
	"io"
	"strings"
	"time"

	"hypertoken/internal/printable"
)

// text is a report for people: lines with a name each.
type text struct{ b strings.Builder }

// beginText begins with what each report has.
func beginText(seed uint64, elapsed time.Duration, acknowledged uint64, failed map[string]uint64) *text {
	t := &text{}
	t.line("seed", "%d", seed)
	t.line("time", "%v", elapsed.Round(time.Millisecond))
	t.line("acknowledged", "%d actions, %.0f a second", acknowledged,
		float64(acknowledged)/max(elapsed.Seconds(), 1e-9))
	t.line("failed", "%s", counted(failed))
	return t
}

func (t *text) line(name, format string, args ...any) {
	fmt.Fprintf(&t.b, "%-14s %s\n", name, fmt.Sprintf(format, args...))
}

func (t *text) writeTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, printable.Text(t.b.String())) // an error may contain any text of a core
	return int64(n), err
}
