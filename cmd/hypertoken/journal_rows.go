package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"hypertoken/internal/journals"
	"hypertoken/internal/marker"
	"hypertoken/internal/msgjson"
	"hypertoken/internal/printable"
)

// maxShownPayload is how many characters of a payload the table has.
const maxShownPayload = 72

// rows writes the actions of a journal: as a table, or as JSON.
type rows struct {
	out    *bufio.Writer
	asJSON bool
}

func newRows(out *bufio.Writer, asJSON bool) *rows { return &rows{out, asJSON} }

// row is an action. Its members are those of --json.
type row struct {
	Sequence uint64          `json:"sequence"`
	Batch    uint64          `json:"batch,omitempty"`
	Now      int64           `json:"now"`
	Type     string          `json:"type"`
	Payload  json.RawMessage `json:"payload,omitempty"`
	Entropy  string          `json:"entropy"`
	Checksum string          `json:"checksum"`
	Key      string          `json:"key,omitempty"`
}

// markerRow is a marker. Its members are those of --json.
type markerRow struct {
	Sequence     uint64 `json:"sequence"`
	Marker       string `json:"marker"`
	To           uint64 `json:"to"`
	FromCore     string `json:"from_core,omitempty"`
	FromEngine   string `json:"from_engine,omitempty"`
	FromSequence uint64 `json:"from_sequence,omitempty"`
	Core         string `json:"core"`
	Digest       string `json:"digest"`
}

// noteRow is a note. Its members are those of --json.
type noteRow struct {
	Sequence uint64 `json:"sequence"`
	Note     string `json:"note"`
	Key      string `json:"key"`
	Changed  bool   `json:"changed"`
}

// text returns what a marker sets the state to.
func (m *markerRow) text() string {
	switch m.Marker {
	case marker.Upgrade:
		return fmt.Sprintf("upgrade from the core %s to %s", shortHash(m.FromCore), shortHash(m.Core))
	case marker.Fork:
		return fmt.Sprintf("fork of %s at %d", printable.Line(m.FromEngine, 0), m.FromSequence)
	}
	return fmt.Sprintf("%s to %d", printable.Line(m.Marker, 20), m.To)
}

// begin writes the head of the table. It comes before the rows.
func (r *rows) begin() {
	if !r.asJSON {
		fmt.Fprintf(r.out, "%8s  %8s  %-24s  %-16s  TYPE\n", "SEQUENCE", "BATCH", "TIME", "CHECKSUM")
	}
}

// finish writes what is not written yet.
func (r *rows) finish() error { return r.out.Flush() }

// addEntry writes an action, a marker or a note of a store.
func (r *rows) addEntry(e *journals.Entry) error {
	if e.Note != nil {
		return r.addNote(&noteRow{Sequence: e.Sequence, Note: "key", Key: e.Note.Key, Changed: e.Note.Changed})
	}
	if e.Marker != nil {
		m, err := marker.Read(e.Marker)
		if err != nil {
			return err
		}
		return r.addMarker(&markerRow{Sequence: e.Sequence, Marker: m.Kind, To: m.To, FromCore: m.FromCore,
			FromEngine: m.FromEngine, FromSequence: m.FromSequence, Core: e.Marker.Core,
			Digest: fmt.Sprintf("%016x", m.Digest)})
	}
	one := row{Sequence: e.Sequence, Batch: e.Batch, Now: e.Now, Type: string(e.Type), Key: e.Key,
		Entropy: hex.EncodeToString(e.Entropy[:]), Checksum: fmt.Sprintf("%016x", e.Checksum)}
	if len(e.Payload) > 0 {
		payload, err := msgjson.Append(nil, e.Payload)
		switch {
		case err == nil:
			one.Payload = payload
		case r.asJSON:
			return fmt.Errorf("the payload of the action %d: %w", e.Sequence, err)
		default:
			one.Payload = fmt.Appendf(nil, "(%d bytes that are no value: %v)", len(e.Payload), err)
		}
	}
	return r.add(&one)
}

// addLine writes a line of an export, and returns its sequence.
func (r *rows) addLine(line []byte) (sequence uint64, err error) {
	if bytes.HasPrefix(line, []byte(`{"marker":`)) {
		var m markerRow
		if err := json.Unmarshal(line, &m); err != nil {
			return 0, err
		}
		return m.Sequence, r.addMarker(&m)
	}
	if bytes.HasPrefix(line, []byte(`{"note":`)) {
		var n noteRow
		if err := json.Unmarshal(line, &n); err != nil {
			return 0, err
		}
		return n.Sequence, r.addNote(&n)
	}
	var one row
	if err := json.Unmarshal(line, &one); err != nil {
		return 0, err
	}
	return one.Sequence, r.add(&one)
}

func (r *rows) addNote(n *noteRow) error {
	if r.asJSON {
		return r.addJSON(n)
	}
	_, err := fmt.Fprintf(r.out, "%8d  %8s  %-24s  %-16s  note of a batch%s\n", n.Sequence, "", "", "", keyText(n.Key))
	return err
}

// keyText returns a key as rows have it.
func keyText(key string) string { return "  key " + clipped(fmt.Sprintf("%q", key), maxShownPayload) }

func (r *rows) addMarker(m *markerRow) error {
	if r.asJSON {
		return r.addJSON(m)
	}
	_, err := fmt.Fprintf(r.out, "%8d  %8s  %-24s  %-16s  %s\n", m.Sequence, "", "", printable.Line(m.Digest, 16),
		m.text())
	return err
}

func (r *rows) add(one *row) error {
	if r.asJSON {
		return r.addJSON(one)
	}
	_, err := r.out.WriteString(one.text())
	return err
}

func (r *rows) addJSON(one any) error {
	b, err := json.Marshal(one)
	if err == nil {
		_, err = r.out.Write(append(printable.AppendJSON(nil, b), '\n'))
	}
	return err
}

// text returns a row of the table.
func (one *row) text() string {
	batch := ""
	if one.Batch > 0 {
		batch = fmt.Sprint(one.Batch)
	}
	line := fmt.Sprintf("%8d  %8s  %-24s  %-16s  %s", one.Sequence, batch,
		time.UnixMilli(one.Now).UTC().Format("2006-01-02 15:04:05.000Z"), printable.Line(one.Checksum, 16),
		printable.Line(one.Type, 0))
	if len(one.Payload) > 0 {
		line += " " + clipped(string(one.Payload), maxShownPayload)
	}
	if one.Key != "" {
		line += keyText(one.Key)
	}
	return strings.TrimRight(line, " ") + "\n"
}

// clipped returns text as one printable line of at most that many characters.
func clipped(text string, most int) string {
	if line := []rune(printable.Line(text, 0)); len(line) > most {
		return string(line[:most-3]) + "..."
	}
	return printable.Line(text, 0)
}
