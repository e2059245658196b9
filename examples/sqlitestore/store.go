// Package sqlitestore keeps journals in a file of SQLite. It shows how to write a [journal.Store];
// docs/stores.md explains it.
package sqlitestore

import (
	"bytes"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"hypertoken/journal"
)

const schema = `
CREATE TABLE IF NOT EXISTS journals (id INTEGER PRIMARY KEY, name BLOB UNIQUE, owner BLOB, newest INTEGER,
	sequence INTEGER, marker INTEGER, base BLOB, core TEXT, created INTEGER, updated INTEGER);
CREATE TABLE IF NOT EXISTS entries (id INTEGER REFERENCES journals ON DELETE CASCADE, sequence INTEGER, entry BLOB,
	PRIMARY KEY (id, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (id INTEGER REFERENCES journals ON DELETE CASCADE, number INTEGER, record BLOB,
	PRIMARY KEY (id, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cores (hash TEXT PRIMARY KEY, code BLOB)`

// Store is a [journal.Store] in a file. It is a [journal.Lister] and a [journal.CoreKeeper], too.
type Store struct {
	db       *sql.DB
	mu       sync.Mutex // guards isClosed
	isClosed bool
	calls    sync.WaitGroup // the goroutines of the calls that are under way
}

// Open opens the journals in a file, and creates the file if it is not there. The caller closes the
// store when the host is shut down.
func Open(file string) (*Store, error) {
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(file)+"?_txlock=immediate&_pragma=busy_timeout(5000)"+
		"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // SQLite writes one transaction at a time
	if _, err := db.Exec(schema); err != nil {
		return nil, errors.Join(fmt.Errorf("the journals in %s can't be opened: %w", file, err), db.Close())
	}
	return &Store{db: db}, nil
}

// Close waits for the calls that are under way. Later calls are refused.
func (s *Store) Close() error {
	s.mu.Lock()
	s.isClosed = true
	s.mu.Unlock()
	s.calls.Wait()
	return s.db.Close()
}

// start runs a call in a transaction of its own, on a goroutine of its own. Then it calls done.
func (s *Store) start(call func(*sql.Tx) error, done func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		go done(journal.Refused("the store is closed"))
		return
	}
	s.calls.Go(func() { done(s.transact(call)) })
}

// transact returns errors of the classes that journal.Store names.
func (s *Store) transact(call func(*sql.Tx) error) error {
	tx, err := s.db.Begin()
	if err == nil {
		defer func() { _ = tx.Rollback() }() // has no effect after a commit
		err = call(tx)
	}
	if err == nil {
		if err = tx.Commit(); err != nil {
			return fmt.Errorf("it is not known whether the file has the call: %w", err)
		}
	}
	var e *sqlite.Error
	switch { // without a commit, the call had no effect
	case err == nil || errors.Is(err, journal.ErrRefused) || errors.Is(err, journal.ErrDamaged):
		return err
	case errors.As(err, &e) && e.Code() == sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", journal.ErrFull, err)
	}
	return fmt.Errorf("%w: %w", journal.ErrUnavailable, err)
}

// row is what the table has of a journal. If the name is not known, the row is zero: no host has
// the zero Owner.
type row struct {
	id     int64
	owner  journal.Owner
	base   journal.Base // its sequence, and whether it is a marker
	newest uint64       // the sequence of the newest entry or marker
}

func find(tx *sql.Tx, name string) (r row, err error) {
	var owner []byte
	err = tx.QueryRow(`SELECT id, owner, sequence, marker, newest FROM journals WHERE name = ?`, []byte(name)).
		Scan(&r.id, &owner, &r.base.Sequence, &r.base.IsMarker, &r.newest)
	if errors.Is(err, sql.ErrNoRows) {
		return r, nil
	}
	return r, errors.Join(err, decode(owner, &r.owner))
}

// Load implements [journal.Store].
func (s *Store) Load(name string, owner journal.Owner, done func(*journal.Stored, error)) {
	var stored *journal.Stored
	s.start(func(tx *sql.Tx) error {
		r, err := find(tx, name)
		if err != nil || r.id == 0 {
			return err
		}
		var base []byte
		err = tx.QueryRow(`UPDATE journals SET owner = ? WHERE id = ? RETURNING base`, encode(owner), r.id).Scan(&base)
		if err != nil {
			return err
		}
		stored = &journal.Stored{Owner: r.owner}
		return errors.Join(decode(base, &stored.Base), readBehind(tx, r.id, stored))
	}, func(err error) {
		if err != nil {
			stored = nil
		}
		done(stored, err)
	})
}

// readBehind reads the entries and the key records behind the base.
func readBehind(tx *sql.Tx, id int64, stored *journal.Stored) error {
	rows, err := tx.Query(`SELECT 0, sequence, entry FROM entries WHERE id = ?1
		UNION ALL SELECT 1, number, record FROM keys WHERE id = ?1 ORDER BY 1, 2`, id)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for err == nil && rows.Next() {
		var isKey bool
		var number uint64
		var value []byte
		if err = rows.Scan(&isKey, &number, &value); isKey {
			stored.Recent = append(stored.Recent, journal.KeyRecord{})
			err = errors.Join(err, decode(value, &stored.Recent[len(stored.Recent)-1]))
		} else {
			stored.Entries = append(stored.Entries, value...)
			stored.Count++
		}
	}
	return errors.Join(err, rows.Err())
}

// Append implements [journal.Store].
func (s *Store) Append(name string, owner journal.Owner, newest uint64, group []journal.Record, done journal.Done) {
	s.start(func(tx *sql.Tx) error {
		r, err := find(tx, name)
		switch {
		case err == nil && r.owner != owner:
			return journal.ErrNotOwner
		case err == nil && r.newest != newest:
			return journal.Refused("an append behind the sequence %d, the newest one is %d", newest, r.newest)
		}
		for k := 0; k < len(group) && err == nil; k++ {
			g := &group[k]
			if g.Keyed != nil {
				_, err = tx.Exec(`INSERT INTO keys VALUES (?, ?, ?)`, r.id, g.Keyed.Number, encode(g.Keyed))
			}
			if g.Action != nil && err == nil {
				newest++
				entry := journal.AppendEntry(nil, g.Action, g.Checksum)
				_, err = tx.Exec(`INSERT INTO entries VALUES (?, ?, ?)`, r.id, newest, entry)
			}
		}
		if err == nil {
			_, err = tx.Exec(`UPDATE journals SET newest = ?, updated = ? WHERE id = ?`, newest, now(), r.id)
		}
		return err
	}, done.Report)
}

// Install implements [journal.Store].
func (s *Store) Install(name string, owner journal.Owner, base journal.Base, done journal.Done) {
	s.start(func(tx *sql.Tx) error {
		r, err := find(tx, name)
		switch {
		case err != nil:
			return err
		case r.id == 0:
			_, err = tx.Exec(`INSERT INTO journals (name, owner, newest, sequence, marker, base, core, created, updated)
				VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?7)`, []byte(name), encode(owner), base.Sequence, base.IsMarker,
				encode(base), base.Core, now())
			return err
		case r.owner != owner:
			return journal.ErrNotOwner
		case base.CheckBehind(&r.base, r.newest) != nil:
			return base.CheckBehind(&r.base, r.newest)
		}
		_, err = tx.Exec(`UPDATE journals SET newest = max(newest, ?2), sequence = ?2, marker = ?3, base = ?4, core = ?5,
			updated = ?6 WHERE id = ?1; DELETE FROM entries WHERE id = ?1 AND sequence <= ?2;
			DELETE FROM keys WHERE id = ?1 AND number <= ?7`, r.id, base.Sequence, base.IsMarker, encode(base), base.Core,
			now(), base.KeyNumber)
		return err
	}, done.Report)
}

// Delete implements [journal.Store].
func (s *Store) Delete(name string, done journal.Done) {
	s.start(func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM journals WHERE name = ?`, []byte(name))
		return err
	}, done.Report)
}

func now() int64 { return time.Now().UnixMilli() }

func encode(value any) []byte {
	var b bytes.Buffer
	_ = gob.NewEncoder(&b).Encode(value) // neither the buffer nor these types refuse anything
	return b.Bytes()
}

func decode(b []byte, into any) error {
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(into); err != nil {
		return fmt.Errorf("%w: %w", journal.ErrDamaged, err)
	}
	return nil
}
