package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"hypertoken/internal/fault"
)

// The error codes stand in internal/fault. README.md lists all of the host's, ABI.md those of a core and
// PROTOCOL.md those of a worker. The npm package knows no other.
func TestEveryErrorCodeIsDocumented(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	readme := read("../README.md")
	known := map[string]bool{}
	for _, e := range fault.All() {
		known[e.Code] = true
		if !strings.Contains(readme, "`"+e.Code+"`") {
			t.Errorf("README.md has no code %s", e.Code)
		}
	}
	abi, protocol := read("../core-rs/ABI.md"), read("../PROTOCOL.md")
	for _, code := range fault.BuiltinCodes() {
		known[code] = true
		if row := "\n| `" + code + "` |"; !strings.Contains(abi, row) && !strings.Contains(protocol, row) {
			t.Errorf("neither a core nor a worker answers %s: it has no row in ABI.md and PROTOCOL.md", code)
		}
	}
	codes := regexp.MustCompile(`new HyperTokenError\('([a-z_]+)'`)
	for _, name := range []string{"engine", "game", "host", "errors"} {
		for _, m := range codes.FindAllStringSubmatch(read("../browser/src/"+name+".js"), -1) {
			if !known[m[1]] {
				t.Errorf("browser/src/%s.js has the code %s, which Go does not have", name, m[1])
			}
		}
	}
}
