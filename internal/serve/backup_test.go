package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hypertoken/host"
	"hypertoken/internal/journals"
	"hypertoken/journal"
	"hypertoken/journal/disk"
)

const backupToken = "a token of sixteen or more"

// backupFunc is an [Options.Backup].
type backupFunc = func(name string) (uint64, error)

// startDurable starts a server on a directory, and returns the directory of its backups.
func startDurable(t *testing.T, wrap func(backupFunc) backupFunc) (*server, string) {
	t.Helper()
	backups := t.TempDir()
	store, err := disk.Open(t.TempDir(), disk.Options{MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	return start(t, host.Options{Store: store, InProcess: true, Workers: 1}, func(o *Options) {
		t.Cleanup(func() { // after the server has stopped, and before goroutines are counted
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		o.IsDurable, o.Token = true, strings.ReplaceAll(backupToken, " ", "-")
		o.Backup = func(name string) (uint64, error) { return journals.Backup(store, backups, name) }
		if wrap != nil {
			o.Backup = wrap(o.Backup)
		}
	}), backups
}

func bearer() string { return "Bearer " + strings.ReplaceAll(backupToken, " ", "-") }

// backup asks for a backup.
func (s *server) backup(body string) (int, string) {
	s.t.Helper()
	return s.do("POST", "/v1/backup", body, "Authorization", bearer())
}

// A backup that is made under load opens, and has every action that was answered before it was
// asked for.
func TestABackupUnderLoad(t *testing.T) {
	s, backups := startDurable(t, nil)
	const players = 4
	var answered [players]atomic.Int64
	enough := make(chan struct{}, players)
	stop := make(chan struct{})
	var playing sync.WaitGroup
	for k := range players {
		playing.Go(func() {
			name := fmt.Sprint("/v1/engines/table-", k)
			lines := `{"setup":{}}` + "\n"
			for n := 1; ; n++ {
				line := fmt.Sprintf(`{"type":"game:setProperty","payload":{"key":"n","value":%d}}`, n)
				status, body, err := s.try("POST", name, strings.NewReader(lines+line), "Authorization", bearer())
				if err != nil || status != http.StatusOK || strings.Contains(body, `"error"`) {
					t.Errorf("got %d %s, %v", status, short(body), err)
					enough <- struct{}{}
					return
				}
				lines = ""
				answered[k].Store(int64(n))
				if n == 20 {
					enough <- struct{}{}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range players {
		<-enough
	}
	var before [3][players]int64
	for n := range before {
		for k := range players {
			before[n][k] = answered[k].Load()
		}
		if status, body := s.backup(fmt.Sprintf(`{"name":"backup-%d"}`, n)); status != http.StatusOK ||
			!strings.Contains(body, `"bytes":`) {
			t.Errorf("got %d %s", status, body)
		}
	}
	close(stop)
	playing.Wait()
	for n := range before {
		copied, err := disk.Open(filepath.Join(backups, fmt.Sprint("backup-", n)), disk.Options{MinFree: 1})
		if err != nil {
			t.Fatal(err)
		}
		for k := range players {
			info, err := journals.Find(t.Context(), copied, fmt.Sprint("table-", k))
			if err != nil || int64(info.Sequence) < before[n][k] {
				t.Errorf("the backup %d: %+v, %v, want the sequence %d or more", n, info, err, before[n][k])
			}
		}
		checkBackup(t, copied)
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
}

// checkBackup replays all journals of a backup.
func checkBackup(t *testing.T, s *disk.Store) {
	t.Helper()
	v := journals.NewVerifier(s, journals.Options{})
	defer func() { _ = v.Close(context.Background()) }()
	var infos []journal.Info
	for info, err := range journals.List(t.Context(), s, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	err := v.Verify(t.Context(), func() (info journal.Info, ok bool, err error) {
		if len(infos) == 0 {
			return info, false, nil
		}
		info, infos = infos[0], infos[1:]
		return info, true, nil
	}, func(r journals.Report) error {
		if !r.OK() {
			t.Errorf("got %+v, %+v", r, r.Difference)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBackupsThatAreRefused(t *testing.T) {
	s, backups := startDurable(t, nil)
	if status, body := s.do("POST", "/v1/backup", `{"name":"x"}`); status != http.StatusUnauthorized {
		t.Errorf("without the token: %d %s", status, body)
	}
	if status, body := s.do("POST", "/v1/backup", `{"name":"x"}`, "Authorization", bearer(), "Origin",
		"https://evil.example", "Sec-Fetch-Site", "cross-site"); status != http.StatusForbidden {
		t.Errorf("for a page of another site: %d %s", status, body)
	}
	if status, body := s.do("GET", "/v1/backup", "", "Authorization", bearer()); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d %s", status, body)
	}
	if status, body := s.backup(`{"name":"taken"}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, body)
	}
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"name":"taken"}`, 409, `"code":"exists"`},
		{`{"name":"../x"}`, 400, "1 to 128 letters"},
		{`{"name":"/x"}`, 400, "1 to 128 letters"},
		{`{"name":"..\\x"}`, 400, "1 to 128 letters"},
		{`{"name":""}`, 400, "1 to 128 letters"},
		{`{"name":1}`, 400, "is not {\\\"name\\\":NAME}"},
		{`{"to":"x"}`, 400, "is not {\\\"name\\\":NAME}"},
		{`{"name":"x","to":"y"}`, 400, "is not {\\\"name\\\":NAME}"},
		{``, 400, "is not {\\\"name\\\":NAME}"},
		{strings.Repeat(" ", maxBackupBody+1), 413, "payload_too_large"},
	} {
		if status, body := s.backup(c.body); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: got %d %s, want %d %s", short(c.body), status, body, c.status, c.says)
		}
	}
	if all, err := os.ReadDir(backups); err != nil || len(all) != 1 {
		t.Errorf("in the directory: %v, %v", all, err)
	}
}

// A server makes one backup at a time. A backup that has begun is completed, although the server
// stops and the client is gone.
func TestABackupThatTakesLong(t *testing.T) {
	begun, release := make(chan struct{}, 1), make(chan struct{})
	s, backups := startDurable(t, func(next backupFunc) backupFunc {
		return func(name string) (uint64, error) {
			begun <- struct{}{}
			<-release
			return next(name)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/backup", strings.NewReader(`{"name":"slow"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", bearer())
	asked := make(chan error, 1)
	go func() {
		w, err := client.Do(r)
		if err == nil {
			_ = w.Body.Close()
		}
		asked <- err
	}()
	<-begun
	if status, body := s.backup(`{"name":"second"}`); status != http.StatusServiceUnavailable ||
		!strings.Contains(body, "one at a time") {
		t.Errorf("a second one: %d %s", status, body)
	}
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	<-s.draining.Done()
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(backups, "slow")); err != nil {
		t.Error(err)
	}
}

func TestBackupsOfServersThatHaveNone(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	if status, body := s.do("POST", "/v1/backup", `{"name":"x"}`); status != http.StatusNotFound ||
		!strings.Contains(body, "--backup-dir") {
		t.Errorf("got %d %s", status, body)
	}
	o := Defaults()
	o.Backup = func(string) (uint64, error) { return 0, nil }
	if _, err := New(s.host, o); err == nil || !strings.Contains(err.Error(), "--backup-dir needs a token") {
		t.Errorf("without a token: %v", err)
	}
}

// A failure of the server is told by its log, and not to clients: it may name directories.
func TestABackupThatFails(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{errors.New("/var/lib is read-only"), `"code":"backup_failed"`},
		{fmt.Errorf("/var/lib: %w", journal.ErrFailed), `"code":"shutdown"`},
	} {
		s := start(t, host.Options{InProcess: true}, func(o *Options) {
			o.Token = strings.ReplaceAll(backupToken, " ", "-")
			o.Backup = func(string) (uint64, error) { return 0, c.err }
		})
		status, body := s.backup(`{"name":"x"}`)
		if status < 500 || !strings.Contains(body, c.says) || strings.Contains(body, "/var") {
			t.Errorf("%v: got %d %s", c.err, status, body)
		}
	}
}
