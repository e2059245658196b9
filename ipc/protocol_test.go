package ipc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"hypertoken/journal"
)

// protocol is PROTOCOL.md.
func protocol(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section returns the text under a heading, up to the next heading of any level.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, after, ok := strings.Cut(text, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("PROTOCOL.md has no heading %q", heading)
	}
	inside, _, _ := strings.Cut(after, "\n#")
	return inside
}

// PROTOCOL.md has every kind and every flag with its number, and a section for each kind with a
// diagram unless its body is empty.
func TestProtocolHasEveryKindAndFlag(t *testing.T) {
	text := protocol(t)
	for k, name := range kindNames {
		from := "host"
		if k.fromWorker() {
			from = "worker"
		}
		pattern := fmt.Sprintf(`(?m)^\| %d \| \[%s\]\(#%s\) \| %s \| (.*?) \|`, k, name, name, from)
		row := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if row == nil {
			t.Errorf("the table of kinds has no row for %v, %d", name, k)
			continue
		}
		s := section(t, text, "### "+name)
		if !strings.Contains(s, fmt.Sprintf("Kind %d", k)) {
			t.Errorf("the section of %v does not say that its kind is %d", name, k)
		}
		// The body of a chunk is that of core and feed.
		if drawn := strings.Contains(s, "```\n +--"); row[1] != "empty" && !drawn && k != Dispatch && k != Chunk {
			t.Errorf("the section of %v has no diagram of its body", name)
		}
	}
	if rows := regexp.MustCompile(`(?m)^\| \d+ \| \[`).FindAllString(text, -1); len(rows) != len(kindNames) {
		t.Errorf("the table has %d kinds, there are %d", len(rows), len(kindNames))
	}
	for flag, name := range map[Flags]string{FlagAtomic: "atomic", FlagJournaled: "journaled", FlagChanged: "changed",
		FlagFailed: "failed", FlagLost: "lost"} {
		if !strings.Contains(text, fmt.Sprintf("\n| %d | %s |", flag, name)) {
			t.Errorf("the table of flags has no row for %s, %d", name, flag)
		}
	}
	for _, code := range []string{CodeConflict, CodeDiverged, CodeNotPlaced, CodeNoCore} {
		if !strings.Contains(section(t, text, "### answer"), "\n| `"+code+"` |") {
			t.Errorf("the section of answer has no row for the code %s", code)
		}
	}
}

// PROTOCOL.md has every member of hello and configure, and no others.
func TestProtocolHasEveryMember(t *testing.T) {
	text := protocol(t)
	member := regexp.MustCompile(`(?m)^\| ([a-z_]+) \| (?:uint|string|bool) \|`)
	for heading, body := range map[string]any{"### hello": HelloBody{}, "### configure": ConfigureBody{}} {
		var want, got []string
		for f := range reflect.TypeOf(body).NumField() {
			want = append(want, reflect.TypeOf(body).Field(f).Tag.Get("msgpack"))
		}
		for _, row := range member.FindAllStringSubmatch(section(t, text, heading), -1) {
			got = append(got, row[1])
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s has the members %v, want %v", heading, got, want)
		}
	}
}

// The frames of PROTOCOL.md's examples are the bytes that this package writes.
func TestProtocolExamples(t *testing.T) {
	text := protocol(t)
	frame := func(h Header, body []byte) []byte {
		h.Length = uint32(len(body))
		b := make([]byte, HeaderSize)
		h.put(b)
		return append(b, body...)
	}
	a := journal.Action{Now: 1000}
	for n := range a.Entropy {
		a.Entropy[n] = byte(n)
	}
	result := []byte{0xc0}
	o := Outcome{RunTime: 5000, Sequence: 12, Memory: 2 << 16, Checksum: xxhash.Sum64(result), Result: result}
	f := Failure{RunTime: 5000, Sequence: 12, Memory: 2 << 16, Code: "not_found", Message: "no card", Index: -1}
	none := Outcome{}
	for name, want := range map[string][]byte{
		"hello":      frame(Header{Kind: Hello}, Encode(HelloBody{Protocol: Version, Build: "java 1", PID: 4242})),
		"configured": frame(Header{Kind: Answer, Request: 1}, AppendBytes(none.AppendHead(nil), 0)),
		"dispatch": frame(Header{Kind: Dispatch, Request: 9, Placement: 4},
			journal.AppendAction(nil, &a, "stack:draw", []byte{0x80})),
		"answer": frame(Header{Kind: Answer, Flags: FlagChanged, Request: 9, Placement: 4},
			AppendBytes(append(o.AppendHead(nil), o.Result...), 0)),
		"failure": frame(Header{Kind: Answer, Flags: FlagFailed, Request: 10, Placement: 4}, f.Append(nil)),
	} {
		_, after, _ := strings.Cut(text, "<!-- example: "+name+" -->\n```\n")
		digits, _, _ := strings.Cut(after, "```")
		got, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the example %s is\n%x, %v, want\n%x", name, got, err, want)
		}
	}
	if sum := fmt.Sprintf("XXH64 of no bytes is `%016x`", xxhash.Sum64(nil)); !strings.Contains(text, sum) {
		t.Errorf("PROTOCOL.md does not say: %s", sum)
	}
}
