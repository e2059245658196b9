package pool

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"hypertoken/internal/process"
)

// A host says once that its workers are not confined, if the system can't filter system calls, and
// nothing if it can.
func TestAHostSaysThatItsWorkersAreNotConfined(t *testing.T) {
	for _, c := range []struct {
		offered process.Confinement
		says    int
	}{
		{process.Confinement{}, 1},
		{process.Confinement{Landlock: 7}, 1},
		{process.Confinement{Seccomp: true}, 0},
	} {
		var log bytes.Buffer
		sayIfUnconfined(slog.New(slog.NewTextHandler(&log, nil)), c.offered)
		if n := strings.Count(log.String(), "level=WARN msg=\"workers may do what their user may"); n != c.says {
			t.Errorf("%+v: it is said %d times, want %d:\n%s", c.offered, n, c.says, log.String())
		}
	}
}
