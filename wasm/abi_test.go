package wasm

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// abi is core-rs/ABI.md.
func abi(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../core-rs/ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ABI.md has every call with its number, and every exported function with its type.
func TestABIHasEveryCall(t *testing.T) {
	text := abi(t)
	for name, op := range map[string]int{"open": opOpen, "restore": opRestore, "feed": opFeed, "ready": opReady,
		"dispatch": opDispatch, "batch": opBatch, "snapshot": opSnapshot, "state": opState, "next": opNext,
		"digest":  opDigest,
		"actions": opActions, "records": opRecords} {
		if !strings.Contains(text, fmt.Sprintf("\n| %d | [%s](#", op, name)) {
			t.Errorf("the table of calls has no row for %s, %d", name, op)
		}
	}
	if rows := regexp.MustCompile(`(?m)^\| \d+ \| \[[a-z]+\]\(#`).FindAllString(text, -1); len(rows) != opRecords {
		t.Errorf("the table has %d calls, there are %d", len(rows), opRecords)
	}
	for _, e := range exports {
		row := regexp.MustCompile("(?m)^\\| `" + e.name + "` \\| \\((.*?)\\) → (\\w+) \\|").FindStringSubmatch(text)
		if row == nil || strings.Count(row[1], "i32") != e.params || strings.Count(row[2], "i32") != e.results {
			t.Errorf("%s is %q, want %d i32 to %d i32", e.name, row, e.params, e.results)
		}
	}
}

// ABI.md has the codes that the core's sources define. It also has bad_result, which a core with
// handlers of typed results may return.
func TestABIHasEveryCode(t *testing.T) {
	source, err := os.ReadFile("../core-rs/src/error.rs")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bad_result"}
	for _, m := range regexp.MustCompile(`pub const [A-Z_]+: &str = "([a-z_]+)";`).FindAllStringSubmatch(string(source), -1) {
		want = append(want, m[1])
	}
	_, after, _ := strings.Cut(abi(t), "\n## Codes\n")
	section, _, _ := strings.Cut(after, "\n## ")
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		got = append(got, m[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 12 || !slices.Equal(got, want) {
		t.Errorf("ABI.md has the codes %v, want %v", got, want)
	}
}
