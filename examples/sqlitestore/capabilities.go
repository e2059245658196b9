package sqlitestore

import (
	"cmp"
	"database/sql"
	"errors"
	"strings"
	"time"

	"hypertoken/journal"
)

var (
	_ journal.Store      = (*Store)(nil)
	_ journal.Lister     = (*Store)(nil)
	_ journal.CoreKeeper = (*Store)(nil)
)

// List implements [journal.Lister].
func (s *Store) List(prefix, after string, limit int, done func([]journal.Info, error)) {
	var page []journal.Info
	s.start(func(tx *sql.Tx) error {
		// Blobs are sorted by their bytes, as the interface wants it.
		// Names that begin with a zero byte are the host's own.
		first := cmp.Or(prefix, "\x01")
		rows, err := tx.Query(`SELECT name, newest, core, length(base) + length(name) + coalesce(
			(SELECT sum(length(entry)) FROM entries WHERE entries.id = journals.id), 0), created, updated
			FROM journals WHERE name >= ? AND name > ? ORDER BY name LIMIT ?`, []byte(first), []byte(after), limit)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var i journal.Info
			var created, updated int64
			if err := rows.Scan(&i.Name, &i.Sequence, &i.Core, &i.Bytes, &created, &updated); err != nil {
				return err
			}
			if !strings.HasPrefix(i.Name, prefix) {
				break
			}
			i.Created, i.Updated = time.UnixMilli(created), time.UnixMilli(updated)
			page = append(page, i)
		}
		return rows.Err()
	}, func(err error) { done(page, err) })
}

// KeepCore implements [journal.CoreKeeper].
func (s *Store) KeepCore(hash string, code []byte, done journal.Done) {
	s.start(func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO cores VALUES (?, ?) ON CONFLICT DO UPDATE SET code = excluded.code`, hash, code)
		return err
	}, done.Report)
}

// Core implements [journal.CoreKeeper].
func (s *Store) Core(hash string, done func([]byte, error)) {
	var code []byte
	s.start(func(tx *sql.Tx) error {
		err := tx.QueryRow(`SELECT code FROM cores WHERE hash = ?`, hash).Scan(&code)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	}, func(err error) { done(code, err) })
}
