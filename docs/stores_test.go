package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The blocks of Go in stores.md are the store of examples/sqlitestore, from its first line to its
// last, and then its test. That module compiles them, and runs journaltest on the store.
func TestTheStoreOfTheDocumentIsTheExample(t *testing.T) {
	var files []string
	for _, name := range []string{"stores.md", "../examples/sqlitestore/store.go",
		"../examples/sqlitestore/capabilities.go", "../examples/sqlitestore/store_test.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, string(b))
	}
	var blocks []string
	for _, b := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(files[0], -1) {
		blocks = append(blocks, b[1])
	}
	n := len(blocks) - 2
	if n < 1 {
		t.Fatalf("stores.md has %d blocks of Go", len(blocks))
	}
	if got := strings.Join(blocks[:n], "\n"); got != files[1] {
		t.Errorf("the first %d blocks of stores.md are not store.go. They are:\n%s", n, got)
	}
	if blocks[n] != files[2] {
		t.Errorf("the block before the last is not capabilities.go:\n%s", blocks[n])
	}
	if !strings.Contains(files[3], blocks[n+1]) {
		t.Errorf("store_test.go does not have the last block:\n%s", blocks[n+1])
	}
}
