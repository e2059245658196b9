package jetstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// apiError is an error that JetStream has answered.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// Error implements error.
func (e *apiError) Error() string {
	return fmt.Sprintf("JetStream answered: %s (error %d)", e.Description, e.ErrCode)
}

// The errors that JetStream answers with, by their numbers. Whoever answers so has stored nothing of a
// write, or of its batch, but for codeStoreFailed.
const (
	codeNoMessage        = 10037 // a read of a message that is not there
	codeStreamNotFound   = 10059
	codeWrongSequence    = 10071 // the fence has moved, of one of the slots of a batch
	codeStillInProcess   = 10164 // the owner record is being written
	codeTooManyRequests  = 10167
	codeIncompleteBatch  = 10176 // a message of the batch was lost, or the leader has changed
	codeTooManyBatches   = 10210
	codeNotAvailable     = 10008 // no leader
	codeNotLeader        = 10009
	codeNoStorage        = 10047 // no room is left
	codeStoreFailed      = 10077 // tells nothing, unless it says that a limit is exceeded
	codeMessageTooLarge  = 10054
	codeStreamNameExists = 10058
)

var (
	errNoAnswer     = errors.New("no answer in time")
	errNoResponders = errors.New("no server answers for the stream: it has no leader, or is not there")
)

// outcome says what became of a write.
type outcome int

const (
	isStored   outcome = iota
	isFenced           // not stored: an owner record has moved
	isBusy             // not stored, and can be repeated soon
	isNoLeader         // not stored, and can be repeated once there is a leader
	isNoRoom           // not stored, because there is no room
	isRefused          // not stored, and would not be if it were repeated
	isUnknown          // nobody knows yet
)

// outcomeOf returns what the error that a write was answered with says.
func outcomeOf(err error) outcome {
	var api *apiError
	switch {
	case err == nil:
		return isStored
	case errors.Is(err, errNoResponders):
		return isNoLeader
	case !errors.As(err, &api):
		return isUnknown
	}
	switch api.ErrCode {
	case codeWrongSequence:
		return isFenced
	case codeStillInProcess:
		return isBusy
	case codeTooManyBatches, codeTooManyRequests:
		return isNoLeader
	case codeIncompleteBatch, codeNotAvailable, codeNotLeader:
		// A server that does not lead the stream answers so, while another one may lead it and store the
		// batch: both have it for a moment when the leader changes.
		return isUnknown
	case codeNoStorage:
		return isNoRoom
	case codeStoreFailed:
		// A follower may have stored what the leader could not store. A limit is checked before that.
		if strings.Contains(api.Description, "maximum") {
			return isNoRoom
		}
		return isUnknown
	case codeMessageTooLarge:
		return isRefused
	}
	if api.Code == 400 {
		return isRefused
	}
	return isUnknown
}

// ack is what a write that was stored is answered with.
type ack struct {
	Stream string    `json:"stream"`
	Seq    uint64    `json:"seq"`
	Count  int       `json:"count"`
	Error  *apiError `json:"error"`
}

// readAck reads the answer to a write. m is nil if there was none.
func readAck(m *nats.Msg) (uint64, error) {
	switch {
	case m == nil:
		return 0, errNoAnswer
	case m.Header.Get("Status") == "503":
		return 0, errNoResponders
	}
	var a ack
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return 0, fmt.Errorf("the answer %q to a write can't be read: %w", m.Data, err)
	}
	if a.Error != nil {
		return 0, a.Error
	}
	if a.Seq == 0 {
		return 0, fmt.Errorf("the answer %q to a write has no sequence", m.Data)
	}
	return a.Seq, nil
}
