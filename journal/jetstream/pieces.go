package jetstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go"

	"hypertoken/journal"
)

// Data that is too large for a message lies in pieces, in a stream of its own. Each message has the
// number of its piece, then its bytes. A piece that was written twice is there twice. The record that
// names the pieces is written last: without it they mean nothing.

// pieceWindow is how many pieces are on their way at once.
const pieceWindow = 8

// putPieces stores data in pieces under a subject that was never used. If it fails, it removes what it
// has stored.
func (s *Store) putPieces(ctx context.Context, stream, subject string, data []byte) (p pieces, err error) {
	p = pieces{size: uint64(len(data)), sum: xxhash.Sum64(data)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards failed
	var failed error
	var wg sync.WaitGroup
	window := make(chan struct{}, pieceWindow)
	for at := 0; at < len(data) && ctx.Err() == nil; at += s.pieceSize {
		m := nats.NewMsg(subject)
		m.Data = append(binary.AppendUvarint(nil, p.count), data[at:min(at+s.pieceSize, len(data))]...)
		p.count++
		window <- struct{}{}
		wg.Go(func() {
			err := s.try(ctx, func(ctx context.Context) error {
				_, err := s.conn.write(ctx, m, s.o.AnswerTimeout)
				return err
			})
			if err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
				cancel()
			}
			<-window
		})
	}
	wg.Wait()
	s.stats.pieces.Add(p.count)
	if failed == nil && ctx.Err() != nil {
		failed = unavailable("the store is being closed")
	}
	if failed != nil {
		s.dropPieces(stream, subject)
	}
	return p, failed
}

// dropPieces removes pieces that nothing refers to. If it fails, they stay, and only take room.
func (s *Store) dropPieces(stream, subject string) {
	s.clean(func(ctx context.Context) error {
		return s.conn.purge(ctx, stream, subject, 0, s.o.AnswerTimeout)
	})
}

// getPieces reads what putPieces has stored. If pieces are missing, it asks isNamed whether the record is
// still there that names them; nil if such a record is never removed.
func (s *Store) getPieces(ctx context.Context, stream, subject string, p pieces,
	isNamed func(context.Context) (bool, error)) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	list := make([][]byte, p.count)
	missing, next := p.count, uint64(1)
	for missing > 0 {
		err := s.try(ctx, func(ctx context.Context) error {
			q := query{Next: subject, Seq: next, Batch: queryBatch, MaxBytes: queryBytes}
			found, _, err := s.conn.read(ctx, stream, q, readSilence)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				// They were stored before the record that names them was, so another replica has them, or the
				// record was removed with them.
				next = 1
				if isNamed != nil {
					if isThere, err := isNamed(ctx); err == nil && !isThere {
						return errChanged
					}
				}
				return errBehind
			}
			for _, m := range found {
				number, size := binary.Uvarint(m.data)
				if size <= 0 || number >= p.count {
					return fmt.Errorf("%w: a piece of %s is none of its pieces", journal.ErrDamaged, subject)
				}
				if list[number] == nil {
					list[number] = m.data[size:]
					missing--
				}
				next = m.at + 1
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%d of %d pieces are missing: %w", missing, p.count, err)
		}
	}
	data := make([]byte, 0, p.size)
	for _, b := range list {
		if uint64(len(data)+len(b)) > p.size {
			break
		}
		data = append(data, b...)
	}
	if uint64(len(data)) != p.size || xxhash.Sum64(data) != p.sum {
		return nil, fmt.Errorf("%w: the pieces of %s are not those that were written", journal.ErrDamaged, subject)
	}
	return data, nil
}

// The bounds of data in pieces, against numbers in damaged records: the most bytes of all pieces, and the
// least of each but the last, if there are more than a few.
const (
	maxPieces  = 1 << 36
	leastPiece = leastPayload - messageOverhead
	fewPieces  = 4096
)

// check fails if there can't be such pieces.
func (p *pieces) check() error {
	if p.size > maxPieces || p.count > max(fewPieces, p.size/leastPiece+1) {
		return fmt.Errorf("%w: %d pieces with %d bytes", journal.ErrDamaged, p.count, p.size)
	}
	return nil
}
