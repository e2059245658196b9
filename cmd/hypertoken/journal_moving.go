package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hypertoken/host"
	"hypertoken/internal/journals"
	"hypertoken/internal/jsonl"
	"hypertoken/internal/printable"
	"hypertoken/journal/disk"
)

// All games at once: each is a file of a folder. A command that was broken off is given again, and goes
// on where it was.

// gameEnding ends the name of a file that has a game.
const gameEnding = ".jsonl"

// gameFile returns the name of the file that has a game: lower-case letters, digits, - and _ are as
// they are, all other bytes become % and two hexadecimal digits. So two games have two files on every
// system.
func gameFile(name string) string {
	var b strings.Builder
	for k := range len(name) {
		switch c := name[k]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.' && k > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String() + gameEnding
}

// gameOfFile returns the name of the game that a file has. ok is false if the file has none.
func gameOfFile(file string) (name string, ok bool) {
	encoded, ok := strings.CutSuffix(file, gameEnding)
	if !ok {
		return "", false
	}
	name, err := url.PathUnescape(encoded)
	return name, err == nil && name != "" && gameFile(name) == file
}

// gameEnd is what the last line of an export says.
type gameEnd struct {
	line     []byte
	Sequence uint64 `json:"sequence"`
	// Digest is that of the state at the sequence, if the line sets the state; "" otherwise.
	Digest string `json:"digest"`
}

// endOfFile reads the last line of a file.
func endOfFile(path string) (end gameEnd, err error) {
	f, err := os.Open(path)
	if err != nil {
		return end, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return end, err
	}
	for size := int64(1 << 14); ; size *= 8 {
		size = min(size, info.Size())
		tail := make([]byte, size)
		if _, err := f.ReadAt(tail, info.Size()-size); err != nil && !errors.Is(err, io.EOF) {
			return end, err
		}
		tail = bytes.TrimRight(tail, "\n")
		if k := bytes.LastIndexByte(tail, '\n'); k >= 0 || size == info.Size() {
			end.line = tail[k+1:]
			if err := json.Unmarshal(end.line, &end); err != nil {
				return end, fmt.Errorf("%s: the last line is not one of an export: %w", printable.Line(path, 0), err)
			}
			return end, nil
		}
	}
}

// gamePlace is where games are moved from or to: a directory, or a server.
type gamePlace interface {
	list(ctx context.Context, prefix string) ([]journals.Info, error)
	export(e *exporter, ctx context.Context) error
	digest(ctx context.Context, name string, at uint64) (string, error)
	// importGame makes a game of the lines of an export.
	importGame(ctx context.Context, name string, in io.Reader) (journals.Position, error)
}

// serverGames are the games of a server, which may be any node of a cluster.
type serverGames struct{ client *journals.Client }

func (g serverGames) list(ctx context.Context, prefix string) (list []journals.Info, err error) {
	return list, g.client.List(ctx, prefix, "", func(i journals.Info) bool {
		list = append(list, i)
		return true
	})
}

func (g serverGames) export(e *exporter, ctx context.Context) error {
	e.client = g.client
	return e.fromServer(ctx)
}

func (g serverGames) digest(ctx context.Context, name string, at uint64) (string, error) {
	s, err := g.client.StateAt(ctx, name, at, true)
	return host.Digest(s.Digest).String(), err
}

func (g serverGames) importGame(ctx context.Context, name string, in io.Reader) (journals.Position, error) {
	return g.client.Import(ctx, name, in)
}

// directoryGames are the games of a directory. host is nil if nothing is imported.
type directoryGames struct {
	store   *disk.Store
	reader  *journals.Reader
	host    *host.Host
	maxLine int
}

func (g directoryGames) list(ctx context.Context, prefix string) (list []journals.Info, err error) {
	for info, err := range journals.List(ctx, g.store, prefix, "") {
		if err != nil {
			return nil, err
		}
		list = append(list, infoOf(info))
	}
	return list, nil
}

func (g directoryGames) export(e *exporter, ctx context.Context) error {
	return e.fromReader(ctx, g.reader)
}

func (g directoryGames) digest(ctx context.Context, name string, at uint64) (string, error) {
	digest, err := g.reader.DigestAt(ctx, name, at)
	return host.Digest(digest).String(), err
}

func (g directoryGames) importGame(ctx context.Context, name string, in io.Reader) (journals.Position, error) {
	return importLines(ctx, g.host, name, jsonl.NewReader(in, g.maxLine, "--max-line"), func() {})
}

// mover moves all games between a folder and a place.
type mover struct {
	place    gamePlace
	folder   string
	progress *progress
	err      io.Writer
	// moved, kept and failed count games. Those that are kept were there already.
	moved, kept, failed int
}

// exportAll writes each game whose name begins with prefix into a file of the folder. A file that has
// all of its game is left as it is.
func (m *mover) exportAll(ctx context.Context, prefix string, span jsonl.Span) error {
	if err := os.MkdirAll(m.folder, 0o755); err != nil {
		return usageError{fmt.Errorf("--output: %w", err)}
	}
	list, err := m.place.list(ctx, prefix)
	if err != nil {
		return err
	}
	for k, info := range list {
		m.progress.show("%d of %d games", k, len(list))
		path := filepath.Join(m.folder, gameFile(info.Name))
		if isExported(path, info) {
			m.kept++
			continue
		}
		var err error
		for try := 1; ; try++ {
			e := exporter{name: info.Name, span: span, progress: &progress{}}
			err = e.toFile(path, func() error { return m.place.export(&e, ctx) })
			if err == nil || !isPassing(err) || !pauseBefore(ctx, try+1) {
				break
			}
		}
		if err := m.count(ctx, info.Name, err); err != nil {
			return err
		}
	}
	return nil
}

// isExported reports whether a file has all of a game.
func isExported(path string, info journals.Info) bool {
	file, err := os.Stat(path)
	if err != nil || file.ModTime().Before(info.Updated) {
		return false
	}
	end, err := endOfFile(path)
	return err == nil && end.Sequence == info.Sequence
}

// importAll makes a game of each file of the folder. A game that is there already, with the same end, is
// left as it is.
func (m *mover) importAll(ctx context.Context) error {
	files, err := os.ReadDir(m.folder)
	if err != nil {
		return usageError{err}
	}
	list, err := m.place.list(ctx, "")
	if err != nil {
		return err
	}
	known := map[string]journals.Info{}
	for _, info := range list {
		known[info.Name] = info
	}
	for k, file := range files {
		m.progress.show("%d of %d files", k, len(files))
		name, ok := gameOfFile(file.Name())
		if !ok {
			continue
		}
		info, isKnown := known[name]
		isThere, err := m.importFile(ctx, name, filepath.Join(m.folder, file.Name()), info, isKnown)
		if isThere {
			m.kept++
			continue
		}
		if err := m.count(ctx, name, err); err != nil {
			return err
		}
	}
	return nil
}

// count takes in what became of a game. It fails if ctx has ended.
func (m *mover) count(ctx context.Context, name string, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		m.moved++
	default:
		m.failed++
		m.progress.clear()
		fmt.Fprintf(m.err, "hypertoken: %s: %s\n", printable.Line(name, 0), printable.Text(err.Error()))
	}
	return nil
}

// The wait between two tries to move a game, and how many there are: a node of a cluster may be away for
// a while.
const (
	movePause = time.Second
	moveTries = 60
)

// pauseBefore waits before a try. It returns false if there is none any more, or if ctx has ended.
func pauseBefore(ctx context.Context, try int) bool {
	if try > moveTries {
		return false
	}
	select {
	case <-time.After(movePause):
		return true
	case <-ctx.Done():
		return false
	}
}

// importFile imports a file. isThere says that nothing was to be done.
func (m *mover) importFile(ctx context.Context, name, path string, info journals.Info, isKnown bool) (isThere bool,
	err error) {
	end, err := endOfFile(path)
	if err != nil {
		return false, err
	}
	for try := 1; ; try++ {
		if isKnown {
			err := m.checkEnd(ctx, info, end)
			return err == nil && try == 1, err
		}
		err := m.importOnce(ctx, name, path, end)
		if err == nil || !isPassing(err) || !pauseBefore(ctx, try+1) {
			return false, err
		}
		// The answer may have been lost, and the game may be there.
		list, listErr := m.place.list(ctx, name)
		if listErr == nil && len(list) > 0 && list[0].Name == name {
			info, isKnown = list[0], true
		}
	}
}

// isPassing reports whether what failed may succeed later.
func isPassing(err error) bool {
	var refusal *journals.Refusal
	if errors.As(err, &refusal) {
		return refusal.Status == http.StatusServiceUnavailable || refusal.Status == http.StatusTooManyRequests
	}
	return errors.Is(err, journals.ErrUnreached)
}

func (m *mover) importOnce(ctx context.Context, name, path string, end gameEnd) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	p, err := m.place.importGame(ctx, name, in)
	if err == nil && p.Sequence != end.Sequence {
		err = fmt.Errorf("it has the sequence %d, and the file ends with %d", p.Sequence, end.Sequence)
	}
	return err
}

// checkEnd fails unless a game that is there ends as a file does.
func (m *mover) checkEnd(ctx context.Context, info journals.Info, end gameEnd) error {
	differs := fmt.Errorf("there is another game of that name already, with the sequence %d; the file has %d",
		info.Sequence, end.Sequence)
	switch {
	case info.Sequence != end.Sequence:
		return differs
	case end.Digest != "":
		digest, err := m.place.digest(ctx, info.Name, info.Sequence)
		if err == nil && digest != end.Digest {
			err = differs
		}
		return err
	case info.Sequence == 0:
		return nil
	}
	var last bytes.Buffer
	e := exporter{name: info.Name, progress: &progress{},
		span: jsonl.Span{After: info.Sequence - 1, HasAfter: true, To: info.Sequence, HasTo: true}}
	if err := e.to(&last, func() error { return m.place.export(&e, ctx) }); err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimRight(last.Bytes(), "\n"), []byte("\n"))
	if !bytes.Equal(lines[len(lines)-1], end.line) {
		return differs
	}
	return nil
}

// finish writes what was done, and fails if games are missing.
func (m *mover) finish(out io.Writer, done string, asJSON bool) error {
	m.progress.clear()
	var err error
	if asJSON {
		_, err = fmt.Fprintf(out, `{%q:%d,"kept":%d,"failed":%d}`+"\n", done, m.moved, m.kept, m.failed)
	} else {
		folder := printable.Line(m.folder, 0)
		_, err = fmt.Fprintf(out, "%s: %d games %s, %d were there already\n", folder, m.moved, done, m.kept)
	}
	if err == nil && m.failed > 0 {
		err = fmt.Errorf("%d games could not be %s", m.failed, done)
	}
	return err
}

// withPlace calls use with the games that the flags name. Those of a directory are read only.
func withPlace(c *cobra.Command, f *journalFlags, replay *replayFlags, use func(gamePlace) error) error {
	asks, err := f.asksServer()
	if err != nil {
		return err
	}
	if !asks {
		return readStore(c, f, replay, func(store *disk.Store, r *journals.Reader) error {
			return use(directoryGames{store: store, reader: r})
		})
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	return use(serverGames{client})
}
