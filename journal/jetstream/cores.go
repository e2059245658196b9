package jetstream

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// coreRow says where the code of a core lies.
type coreRow struct {
	Nonce string `json:"nonce"`
	Count uint64 `json:"count"`
	Size  uint64 `json:"size"`
	Sum   uint64 `json:"sum,string"`
}

// checkHash fails if a hash is not one.
func checkHash(hash string) error {
	if b, err := hex.DecodeString(hash); err != nil || len(b) != 32 || hex.EncodeToString(b) != hash {
		return journal.Refused("%q is not the SHA-256 of a core in hexadecimal", hash)
	}
	return nil
}

// KeepCore implements [journal.CoreKeeper].
func (s *Store) KeepCore(hash string, code []byte, done journal.Done) {
	s.background(func(ctx context.Context) { done.Report(s.keepCore(ctx, hash, code)) }, done.Report)
}

func (s *Store) keepCore(ctx context.Context, hash string, code []byte) error {
	present, err := s.core(ctx, hash)
	if err == nil && present != nil && bytes.Equal(present, code) || err != nil && !errors.Is(err, journal.ErrDamaged) {
		return err
	}
	stream, row := s.layout.pieceStream(0), coreRow{Nonce: randomHex(8)}
	p, err := s.putPieces(ctx, stream, s.layout.codeSubject(hash, row.Nonce), code)
	if err != nil {
		return err
	}
	row.Count, row.Size, row.Sum = p.count, p.size, p.sum
	data, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return s.try(ctx, func(ctx context.Context) error {
		m := nats.NewMsg(s.layout.coreSubject(hash))
		m.Data = data
		m.Header.Set(headerRollup, rollupSubject)
		_, err := s.conn.write(ctx, m, s.o.AnswerTimeout)
		return err
	})
}

// Core implements [journal.CoreKeeper].
func (s *Store) Core(hash string, done func([]byte, error)) {
	s.background(func(ctx context.Context) { done(s.core(ctx, hash)) }, func(err error) { done(nil, err) })
}

func (s *Store) core(ctx context.Context, hash string) (code []byte, err error) {
	if err := checkHash(hash); err != nil {
		return nil, err
	}
	stream, witness := s.layout.pieceStream(0), s.layout.pieceReadSubject()
	mark, err := s.mark(ctx, witness)
	if err != nil {
		return nil, err
	}
	var m *message
	err = s.try(ctx, func(ctx context.Context) (err error) {
		m, _, err = s.lastOf(ctx, stream, s.layout.coreSubject(hash), witness, mark)
		return err
	})
	if err != nil || m == nil {
		return nil, err
	}
	nonce, p, err := parseCoreRow(m.data)
	if err != nil {
		return nil, fmt.Errorf("the record of the core %s: %w", hash, err)
	}
	return s.getPieces(ctx, stream, s.layout.codeSubject(hash, nonce), p, nil)
}

// parseCoreRow reads where the code of a core lies.
func parseCoreRow(b []byte) (nonce string, p pieces, err error) {
	var row coreRow
	if err := json.Unmarshal(b, &row); err != nil {
		return "", p, fmt.Errorf("%w: %w", journal.ErrDamaged, err)
	}
	if token, err := hex.DecodeString(row.Nonce); err != nil || len(token) == 0 {
		return "", p, fmt.Errorf("%w: the nonce %q is not hexadecimal", journal.ErrDamaged, row.Nonce)
	}
	p = pieces{count: row.Count, size: row.Size, sum: row.Sum}
	return row.Nonce, p, p.check()
}
