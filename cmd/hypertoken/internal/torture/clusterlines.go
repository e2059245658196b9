package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"github.com/coder/websocket"

	"hypertoken/host"
	hosterrors "hypertoken/internal/fault"
	"hypertoken/internal/msgjson"
)

// A torture of a cluster talks to its nodes as every client does: in lines, over HTTP and WebSockets.

// appendValue appends a value in MessagePack as JSON. The values of this package always have a form in
// JSON.
func appendValue(line []byte, v host.Raw) []byte {
	line, err := msgjson.Append(line, v)
	if err != nil {
		panic(err)
	}
	return line
}

// appendAction appends the members of an action to a line, or to an object in a batch.
func appendAction(line []byte, a *action) []byte {
	line = fmt.Appendf(line, `"type":%q,"payload":`, a.kind)
	line = appendValue(line, a.payload)
	return fmt.Appendf(line, `,"now":%d,"entropy":"%x"`, a.now, a.entropy)
}

// lineOf returns the line of a call. key is the key of the whole call, or "".
func lineOf(x *call, key string, timeoutMS int) []byte {
	line := []byte{'{'}
	switch x.form {
	case wholeState:
		line = append(line, `"state":true`...)
	case wholeDigest:
		line = append(line, `"digest":true`...)
	case single:
		if a := &x.actions[0]; a.isRewind {
			line = append(line, rewindMember(a)...)
		} else {
			line = appendAction(line, a)
		}
		if x.actions[0].conditional {
			line = fmt.Appendf(line, `,"if_sequence":%d`, x.actions[0].ifSequence)
		}
	default:
		mode := "independent"
		if x.form == atomicBatch {
			mode = "atomic"
		}
		line = fmt.Appendf(line, `"mode":%q,"batch":[`, mode)
		for k := range x.actions {
			if k > 0 {
				line = append(line, ',')
			}
			line = append(appendAction(append(line, '{'), &x.actions[k]), '}')
		}
		line = append(line, ']')
	}
	if key != "" {
		line = fmt.Appendf(line, `,"key":%q`, key)
	}
	return fmt.Appendf(line, `,"timeout":%d,"want":["sequence","changed"]}`, timeoutMS)
}

func rewindMember(a *action) string {
	if a.kind == revertKind {
		return fmt.Sprintf(`"revert":%d`, a.to)
	}
	return fmt.Sprintf(`"%s":true`, a.kind)
}

// lineAnswer is an answer to a line. It has only some of the members.
type lineAnswer struct {
	OK       bool              `json:"ok"`
	Result   json.RawMessage   `json:"result"`
	State    json.RawMessage   `json:"state"`
	Digest   string            `json:"digest"`
	Results  []json.RawMessage `json:"results"`
	Sequence uint64            `json:"sequence"`
	Changed  bool              `json:"changed"`
	Error    *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// noCode stands for the code of an error that has none. A step back or forward has such an error if it has
// to read the journal, and the servers have no leader at the moment. It has no effect.
const noCode = "no_code"

// hostCodes are the codes of errors of the host.
var hostCodes = func() map[string]bool {
	codes := map[string]bool{noCode: true}
	for _, e := range hosterrors.All() {
		codes[e.Code] = true
	}
	return codes
}()

// err returns the error of an answer, such that errors.Is and errors.As know it, or nil.
func (a *lineAnswer) err() error {
	if a.Error == nil {
		return nil
	}
	code := a.Error.Code
	if code == "" {
		code = noCode
	}
	told := &toldError{Code: code, Message: a.Error.Message, IsCore: !hostCodes[code]}
	return told.err()
}

// hashOf returns the XXH64 of a value as the core has written it.
func hashOf(value json.RawMessage) (uint64, error) {
	raw, err := msgjson.Value(value)
	return xxhash.Sum64(raw), err
}

// readAnswer takes in the answer to a call. A member of a batch has no sequence of its own: the journal
// gives it later. It fails if the line is no answer to the call.
func (x *clusterCall) readAnswer(line []byte) error {
	var a lineAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		return err
	}
	outcomes := make([]outcome, len(x.outcomes))
	if told := a.err(); told != nil {
		for k := range outcomes {
			outcomes[k].err = told
		}
		x.outcomes, x.sequence, x.changed, x.failed = outcomes, 0, false, told
		return nil
	}
	var err error
	o := &outcomes[0]
	switch {
	case x.form == wholeState:
		o.hash, err = hashOf(a.State)
	case x.form == wholeDigest || x.actions[0].isRewind:
		o.hash, err = strconv.ParseUint(a.Digest, 16, 64)
	case x.form == single:
		o.hash, err = hashOf(a.Result)
	case len(a.Results) != len(outcomes):
		err = fmt.Errorf("%d results for a batch of %d", len(a.Results), len(outcomes))
	default:
		err = readMembers(outcomes, a.Results)
	}
	if x.form == single || x.form.isQuestion() {
		o.sequence, o.changed = a.Sequence, a.Changed
	}
	if err == nil {
		x.outcomes, x.sequence, x.changed, x.failed = outcomes, a.Sequence, a.Changed, nil
	}
	return err
}

func readMembers(outcomes []outcome, results []json.RawMessage) error {
	for k := range outcomes {
		var member lineAnswer
		err := json.Unmarshal(results[k], &member)
		if err == nil {
			if outcomes[k].err = member.err(); outcomes[k].err == nil {
				outcomes[k].hash, err = hashOf(member.Result)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// madePlacementIn returns the identifier in the answer to space:place, or "" if there is none.
func madePlacementIn(line []byte) string {
	var a struct {
		Result struct {
			ID string `json:"id"`
		} `json:"result"`
	}
	if json.Unmarshal(line, &a) != nil {
		return ""
	}
	return a.Result.ID
}

// errNotSent says that a node was not reached: the line has no effect.
var errNotSent = errors.New("the node was not reached")

// lineSender sends lines about one engine to nodes, and returns the answers. An error says that there
// was none.
type lineSender interface {
	send(ctx context.Context, node string, line []byte) ([]byte, error)
	close()
}

// overHTTP sends each line as a request of its own.
type overHTTP struct {
	client *http.Client
	engine string
}

func (o *overHTTP) close() {}

func (o *overHTTP) send(ctx context.Context, node string, line []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, node+"/v1/engines/"+o.engine, bytes.NewReader(line))
	if err != nil {
		return nil, err
	}
	w, err := o.client.Do(r)
	if err != nil {
		return nil, asNotSent(err)
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	// A second line says that the server is stopping.
	first, _, _ := bytes.Cut(b, []byte("\n"))
	return first, err
}

// asNotSent marks an error that means that no connection was made.
func asNotSent(err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return err
}

// overWebSocket keeps its connection as long as it can, and so stays at one node.
type overWebSocket struct {
	engine string
	conn   *websocket.Conn
}

func (o *overWebSocket) close() {
	if o.conn != nil {
		_ = o.conn.CloseNow()
		o.conn = nil
	}
}

func (o *overWebSocket) send(ctx context.Context, node string, line []byte) ([]byte, error) {
	if o.conn == nil {
		conn, _, err := websocket.Dial(ctx, node+"/v1/engines/"+o.engine, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotSent, err)
		}
		conn.SetReadLimit(-1) // an answer may be a whole state
		o.conn = conn
	}
	err := o.conn.Write(ctx, websocket.MessageText, line)
	var b []byte
	if err == nil {
		_, b, err = o.conn.Read(ctx)
	}
	if err != nil {
		o.close()
		return nil, err
	}
	return bytes.TrimSpace(b), nil
}
