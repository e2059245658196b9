package process

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/go-plugin"
)

// PROTOCOL.md has the cookie that workers look for. A host accepts its handshake line.
func TestProtocolHasTheHandshake(t *testing.T) {
	b, err := os.ReadFile("../../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	row := fmt.Sprintf("| `%s` | `%s`,", handshake.MagicCookieKey, handshake.MagicCookieValue)
	if !strings.Contains(text, row) {
		t.Errorf("PROTOCOL.md has no row %q", row)
	}
	begin := regexp.QuoteMeta(fmt.Sprintf("%d|%d|", plugin.CoreProtocolVersion, handshake.ProtocolVersion))
	line := regexp.MustCompile("(?m)^" + begin + ".*$").FindString(text)
	if !handshakeLine.MatchString(line) {
		t.Errorf("the handshake line of PROTOCOL.md is %q", line)
	}
}
