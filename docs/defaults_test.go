package docs

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hypertoken/host"
)

// defaults are the defaults of host.Options that documents name, as the documents write them.
var defaults = map[string]string{
	"Timeout":     duration(host.DefaultTimeout),
	"PollFor":     duration(host.DefaultPollFor),
	"BusyAfter":   duration(host.DefaultBusyAfter),
	"MaxKills":    fmt.Sprint(host.DefaultMaxKills),
	"HoldFor":     duration(host.DefaultHoldFor),
	"KeyBytes":    mebibytes(host.DefaultKeyBytes),
	"MaxKeyBytes": mebibytes(host.DefaultMaxKeyBytes),
}

func duration(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%d s", d/time.Second)
	case d >= time.Millisecond:
		return fmt.Sprintf("%d ms", d/time.Millisecond)
	}
	return fmt.Sprintf("%d µs", d/time.Microsecond)
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// A default in a document, as in `PollFor` (50 µs) or in a row of a table, is that of the host.
func TestDefaultsAreThoseOfTheHost(t *testing.T) {
	mention := regexp.MustCompile("`(?:Options\\.)?(\\w+)`(?: \\(| \\| )(\\d+(?: (?:s|ms|µs|MiB))?)(?:\\)| \\|)")
	found := map[string]bool{}
	for _, name := range []string{"guide.md", "security.md", "cores.md"} {
		text := strings.Join(strings.Fields(read(t, filepath.Join(".", name))), " ")
		for _, m := range mention.FindAllStringSubmatch(text, -1) {
			option, value := m[1], m[2]
			if want, known := defaults[option]; known {
				found[option] = true
				if value != want {
					t.Errorf("%s: the default of %s is %s, not %s", name, option, want, value)
				}
			}
		}
	}
	if len(found) < 7 {
		t.Errorf("only these defaults are in the documents: %v", found)
	}
}
