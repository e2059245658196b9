package serve

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"hypertoken/host"
	"hypertoken/internal/journals"
	"hypertoken/journal"
)

// codeBackupFailed is the code of this server's own for a backup that could not be made.
const codeBackupFailed = "backup_failed"

// backups are made one at a time.
type backups struct {
	turn    sync.Mutex // held while a backup is made
	running sync.WaitGroup
}

const (
	// maxBackupBody bounds the body of a request for a backup, in bytes.
	maxBackupBody = 4096
	// backupBodyTime is how long such a body may take to arrive.
	backupBodyTime = 10 * time.Second
)

// makeBackup has a backup made under the name that the client gives. The client waits for it. If
// the client goes away, the backup is made all the same.
func (s *Server) makeBackup(w http.ResponseWriter, r *http.Request) *problem {
	if s.o.Backup == nil {
		return refused(http.StatusNotFound, codeNotFound,
			"this server makes no backups: start it with --data and --backup-dir")
	}
	if s.draining.Err() != nil {
		return stopping()
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(backupBodyTime))
	name, p := backupName(r.Body)
	if p != nil {
		return p
	}
	if !s.backups.turn.TryLock() {
		return refused(http.StatusServiceUnavailable, host.ErrOverloaded.Code,
			"a backup is being made already, and there is one at a time: try again when it is done")
	}
	defer s.backups.turn.Unlock()
	s.backups.running.Add(1)
	defer s.backups.running.Done()
	_ = control.SetWriteDeadline(time.Time{}) // nobody knows how long the backup takes
	began := time.Now()
	size, err := s.o.Backup(name)
	_ = control.SetWriteDeadline(time.Now().Add(s.o.WriteTimeout))
	if err != nil {
		return s.backupProblem(name, err)
	}
	s.log.Info("a backup was made", "name", name, "bytes", size, "after", time.Since(began))
	return writeJSON(w, map[string]any{"name": name, "bytes": size})
}

// backupName reads the body of a request for a backup.
func backupName(body io.Reader) (string, *problem) {
	b, err := io.ReadAll(io.LimitReader(body, maxBackupBody+1))
	if err == nil && len(b) > maxBackupBody {
		return "", refused(http.StatusRequestEntityTooLarge, host.ErrPayloadTooLarge.Code,
			"the body has more than %d bytes: send {\"name\":NAME}", maxBackupBody)
	}
	var members map[string]any
	if err == nil {
		err = json.Unmarshal(b, &members)
	}
	name, isText := members["name"].(string)
	if err != nil || !isText || len(members) != 1 {
		return "", refused(http.StatusBadRequest, host.ErrBadInput.Code, `the body is not {"name":NAME}`)
	}
	return name, nil
}

// backupProblem returns the problem for an error of a backup. The log has what is not the
// client's fault: it may name directories of the server.
func (s *Server) backupProblem(name string, err error) *problem {
	switch {
	case errors.Is(err, journals.ErrBackupName):
		return refused(http.StatusBadRequest, host.ErrBadInput.Code, "%v", err)
	case errors.Is(err, journals.ErrBackupExists):
		return refused(http.StatusConflict, codeExists, "%v", err)
	}
	s.log.Warn("a backup could not be made", "name", name, "error", err)
	if errors.Is(err, journal.ErrFailed) {
		return refused(http.StatusServiceUnavailable, host.ErrShutdown.Code,
			"the server's store has failed, and the server ends: try again when it is back")
	}
	return refused(http.StatusInternalServerError, codeBackupFailed,
		"the backup could not be made: the server's log says why")
}
