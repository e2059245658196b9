package calls

import (
	"io"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/internal/driver"
)

// event is an event of an engine as it is sent. One without a name says that the listening has
// begun.
type event struct {
	Name    string   `msgpack:"n"`
	Engine  string   `msgpack:"e"`
	Action  string   `msgpack:"a,omitempty"`
	Result  Result   `msgpack:"r"`
	Payload []byte   `msgpack:"p,omitempty"`
	Failure *Failure `msgpack:"x,omitempty"`
}

// WriteEvent sends an event. The zero value says that the listening has begun.
func WriteEvent(w io.Writer, e *driver.Event) error {
	body, err := msgpack.Marshal(&event{e.Name, e.Engine, e.Action, ResultOf(e.Result), e.Payload, FailureOf(e.Err)})
	if err == nil {
		_, err = w.Write(body)
	}
	return err
}

// EventReader reads events that were sent.
type EventReader struct{ d *msgpack.Decoder }

// NewEventReader returns a reader of events.
func NewEventReader(r io.Reader) *EventReader { return &EventReader{msgpack.NewDecoder(r)} }

// Next reads the next event.
func (r *EventReader) Next() (driver.Event, error) {
	var e event
	err := r.d.Decode(&e)
	return driver.Event{Name: e.Name, Engine: e.Engine, Action: e.Action, Result: e.Result.Driver(), Payload: e.Payload,
		Err: e.Failure.Err()}, err
}
