package jsonl

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
	"hypertoken/internal/marker"
	"hypertoken/internal/msgjson"
	"hypertoken/journal"
)

// An export is a journal as lines that [ParseExport] reads: first a base, then its actions, each
// with what its result was, its markers, each with the state that it sets, and its notes, each with
// what is remembered of a batch that had a key.

// Source is a journal that can be exported. A [host.Engine] is one.
type Source interface {
	// Newest returns the sequence of the newest action that is stored.
	Newest() uint64
	// JournalAt returns the newest base whose sequence is at most at, and the entries behind it up to
	// at; with 0 the oldest base that is kept.
	JournalAt(ctx context.Context, at uint64) (journal.Base, iter.Seq2[host.Entry, error], error)
	// History iterates over the entries from one sequence to another, both included.
	History(ctx context.Context, from, to uint64) iter.Seq2[host.Entry, error]
	// DigestAt returns the digest of the state at a sequence.
	DigestAt(ctx context.Context, sequence uint64) (host.Digest, error)
}

// Span says which part of a journal is exported.
type Span struct {
	// From is the sequence of the first state of the export, or a later one than the base that the
	// export begins with. If HasFrom is false, the export begins with the newest base.
	From    uint64
	HasFrom bool
	// After is the sequence behind which the export begins, if HasAfter is true. It has no base then, so
	// that it can't be played, and From has no meaning.
	After    uint64
	HasAfter bool
	// To is the sequence of the last action. If HasTo is false, it is the newest.
	To    uint64
	HasTo bool
}

// Export hands the lines of an export to write, each without its newline and only until write
// returns. It ends with the first error of write. The engine goes on meanwhile; what it does then
// is not exported. Before the first line, Export fails as [host.Engine.JournalAt] does.
func Export(ctx context.Context, from Source, span Span, write func(line []byte) error) error {
	hasBegun := false
	writes := func(line []byte) error {
		hasBegun = true
		return write(line)
	}
	for try := 1; ; try++ {
		err := exportOnce(ctx, from, span, writes)
		if hasBegun || span.HasFrom || try == exportTries || !errors.Is(err, host.ErrHistoryTrimmed) {
			return err
		}
	}
}

// exportTries is how often an export begins, if a newer snapshot takes the place of the one that
// it was to begin with.
const exportTries = 5

func exportOnce(ctx context.Context, from Source, span Span, write func(line []byte) error) error {
	newest := from.Newest()
	if !span.HasTo {
		span.To = newest
	}
	if span.HasAfter {
		if span.To > newest || span.After > span.To {
			return host.ErrBadInput.With("after is %d and to is %d: the engine has the sequences 0 to %d", span.After,
				span.To, newest)
		}
		return exportEntries(from.History(ctx, span.After+1, span.To), write, nil)
	}
	if !span.HasFrom {
		span.From = span.To
	}
	if span.To > newest || span.From > span.To {
		return host.ErrBadInput.With("from is %d and to is %d: the engine has the sequences 0 to %d", span.From, span.To,
			newest)
	}
	base, entries, err := from.JournalAt(ctx, span.From)
	if err != nil {
		return err
	}
	line, err := appendBase(ctx, from, &base)
	if err == nil {
		err = write(line)
	}
	if err != nil {
		return err
	}
	next := base.Sequence + 1
	if err := exportEntries(entries, write, &next); err != nil || next > span.To {
		return err
	}
	return exportEntries(from.History(ctx, next, span.To), write, nil)
}

// exportEntries writes the lines of entries. It counts next up for each that takes a sequence, if next
// is not nil.
func exportEntries(entries iter.Seq2[host.Entry, error], write func(line []byte) error, next *uint64) error {
	var line []byte
	for entry, err := range entries {
		if err == nil {
			line, err = appendEntry(line[:0], &entry)
		}
		if err == nil {
			err = write(line)
		}
		if err != nil {
			return err
		}
		if next != nil && entry.Note == nil {
			*next++
		}
	}
	return nil
}

// appendBase returns the line of a base.
func appendBase(ctx context.Context, from Source, base *journal.Base) (line []byte, err error) {
	if base.IsMarker {
		return appendMarker(nil, base)
	}
	if !base.Snapshot {
		line = append(line, `{"setup":`...)
		if len(base.Data) == 0 {
			line = append(line, "{}"...)
		} else if line, err = msgjson.Append(line, base.Data); err != nil {
			return nil, badResult(err)
		}
		return fmt.Appendf(line, `,"core":"%s"}`, base.Core), nil
	}
	digest, err := from.DigestAt(ctx, base.Sequence)
	if err != nil {
		return nil, err
	}
	line = append(line, `{"snapshot":"`...)
	line = base64.StdEncoding.AppendEncode(line, base.Data)
	return appendState(line, base, digest)
}

// appendMarker appends the line of a base that is a marker.
func appendMarker(line []byte, base *journal.Base) ([]byte, error) {
	m, err := marker.Read(base)
	if err != nil {
		return line, host.ErrBroken.Because(err, "%v", err)
	}
	if line, err = appendString(append(line, `{"marker":`...), m.Kind); err != nil {
		return line, err
	}
	switch m.Kind {
	case marker.Revert:
		line = fmt.Appendf(line, `,"to":%d`, m.To)
	case marker.Upgrade:
		line = fmt.Appendf(line, `,"from_core":"%s","digest_before":"%v"`, m.FromCore, host.Digest(m.DigestBefore))
	case marker.Fork:
		if line, err = appendString(append(line, `,"from_engine":`...), m.FromEngine); err != nil {
			return line, err
		}
		line = fmt.Appendf(line, `,"from_sequence":%d`, m.FromSequence)
	}
	line = fmt.Appendf(line, `,"current":%d,"redo":[`, m.Current)
	for k, sequence := range m.Redo {
		if k > 0 {
			line = append(line, ',')
		}
		line = strconv.AppendUint(line, sequence, 10)
	}
	line = append(line, `],"snapshot":"`...)
	return appendState(base64.StdEncoding.AppendEncode(line, base.Data), base, host.Digest(m.Digest))
}

// appendState appends what follows the snapshot in a line.
func appendState(line []byte, base *journal.Base, digest host.Digest) (_ []byte, err error) {
	line = fmt.Appendf(line, `","sequence":%d,"core":"%s","digest":"%v","keys":[`, base.Sequence, base.Core, digest)
	for k, r := range base.Keys {
		if k > 0 {
			line = append(line, ',')
		}
		if line, err = appendKey(append(line, '{'), &r); err != nil {
			return nil, err
		}
		line = fmt.Appendf(line, `,"number":%d}`, r.Number)
	}
	return append(line, "]}"...), nil
}

// appendKey appends the members of what is remembered of a key, without its number.
func appendKey(line []byte, r *journal.KeyRecord) (_ []byte, err error) {
	if line, err = appendString(append(line, `"key":`...), r.Key); err != nil {
		return nil, err
	}
	line = fmt.Appendf(line, `,"sum":"%x","result":"`, r.Sum)
	line = base64.StdEncoding.AppendEncode(line, r.Result)
	return fmt.Appendf(line, `","sequence":%d,"changed":%t`, r.Sequence, r.Changed), nil
}

// appendEntry appends the line of an action, of a marker or of a note to b.
func appendEntry(b []byte, e *host.Entry) ([]byte, error) {
	switch {
	case e.Marker != nil:
		return appendMarker(b, e.Marker.Base)
	case e.Note != nil:
		b, err := appendKey(append(b, `{"note":"key",`...), e.Note)
		return append(b, '}'), err
	}
	b, err := appendString(append(b, `{"type":`...), e.Type)
	if err == nil && len(e.Payload) > 0 {
		if b, err = msgjson.Append(append(b, `,"payload":`...), e.Payload); err != nil {
			err = badResult(err)
		}
	}
	if err != nil {
		return nil, err
	}
	b = hex.AppendEncode(fmt.Appendf(b, `,"now":%d,"entropy":"`, e.Now), e.Entropy[:])
	b = append(b, '"')
	if e.Key != "" {
		if b, err = appendString(append(b, `,"key":`...), e.Key); err != nil {
			return nil, err
		}
	}
	if e.Batch > 0 {
		b = fmt.Appendf(b, `,"batch":%d`, e.Batch)
	}
	return fmt.Appendf(b, `,"sequence":%d,"checksum":"%016x"}`, e.Sequence, e.Checksum), nil
}

// appendString appends a string as JSON.
func appendString(b []byte, s string) ([]byte, error) {
	encoded, err := msgpack.Marshal(s)
	if err == nil {
		b, err = msgjson.Append(b, encoded)
	}
	return b, badResult(err)
}

// badResult gives an error for what is no value its code.
func badResult(err error) error {
	if err == nil {
		return nil
	}
	return &host.Error{Code: CodeBadResult, Message: err.Error(), Err: err}
}
