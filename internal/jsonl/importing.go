package jsonl

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hypertoken/host"
	"hypertoken/journal"
)

// Import has a host import the game of an export under a name. next returns the lines, as
// [Reader.Next] does; added is called after each. Every result is held against the export.
//
// It returns the import once all lines are in; the caller calls Commit, or Abort. After an error
// nothing is left. An error names the line, and is one of the host's.
func Import(
	ctx context.Context, h *host.Host, name string, next func() (Line, error), added func(),
) (i *host.Import, err error) {
	defer func() {
		if err != nil && i != nil {
			err = errors.Join(err, i.Abort(context.WithoutCancel(ctx)))
			i = nil
		}
	}()
	for {
		line, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		q, err := ParseExport(line, err)
		if err == nil && i == nil {
			i, err = begin(ctx, h, name, q)
		} else if err == nil {
			err = add(ctx, i, q)
		}
		if err != nil {
			return i, atLine(line.Number, err)
		}
		added()
	}
	if i == nil {
		return nil, host.ErrBadInput.With("there is no line: the first one of an export is a setup, a snapshot or a marker")
	}
	return i, nil
}

// begin begins an import with the first line of an export.
func begin(ctx context.Context, h *host.Host, name string, q *Request) (*host.Import, error) {
	var base journal.Base
	switch {
	case q.ValueError != nil:
		return nil, q.ValueError
	case q.Kind == Setup:
		base = journal.Base{Core: q.Core, Data: q.Value}
	case q.Kind == Snapshot || q.Kind == Marker:
		base = *q.Base()
	default:
		return nil, badLine("an export begins with a setup, a snapshot or a marker")
	}
	i, err := h.Import(ctx, name, base)
	if err != nil || !q.HasDigest {
		return i, err
	}
	at, err := i.Position(ctx)
	if err == nil && at.Digest != q.Digest {
		err = host.ErrDiverged.With("the state had the digest %v, and has %v", q.Digest, at.Digest)
	}
	return i, err
}

// add adds the action, the marker or the note of a line.
func add(ctx context.Context, i *host.Import, q *Request) error {
	if q.Kind != Action && q.Kind != Marker && q.Kind != Note {
		return badLine("behind its first line, an export has actions, markers and notes only")
	}
	entry, err := q.Entry()
	if err != nil {
		return err
	}
	return i.Add(ctx, entry)
}

// atLine says in an error which line it concerns. It keeps the code.
func atLine(number int, err error) error {
	var own *host.Error
	var bad *LineError
	switch {
	case errors.As(err, &own):
		named := *own
		named.Message = fmt.Sprintf("line %d: %s", number, own.Message)
		return &named
	case errors.As(err, &bad):
		return host.ErrBadInput.Because(err, "line %d: %v", number, err)
	}
	return fmt.Errorf("line %d: %w", number, err)
}
