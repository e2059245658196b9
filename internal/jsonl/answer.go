package jsonl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"hypertoken/host"
	"hypertoken/internal/msgjson"
	"hypertoken/internal/printable"
)

// Answers are lines without their newline.

// OK is the answer to a setup that was taken, and that wants nothing else.
const OK = `{"ok":true}`

// after has the figures of an engine after a line that a line may want in its answer.
type after struct {
	sequence  uint64
	changed   bool
	hasDigest bool
	digest    host.Digest
}

// append appends the wanted members to the members that an answer has so far, and closes the
// answer.
func (w Want) append(line []byte, a after) []byte {
	if w&WantSequence != 0 {
		line = fmt.Appendf(line, `,"sequence":%d`, a.sequence)
	}
	if w&WantChanged != 0 {
		line = fmt.Appendf(line, `,"changed":%t`, a.changed)
	}
	switch {
	case w&WantDigest == 0:
	case a.hasDigest:
		line = fmt.Appendf(line, `,"digest":"%v"`, a.digest)
	default:
		line = append(line, `,"digest":null`...)
	}
	return append(line, '}')
}

// Taken returns the answer to a setup that the engine was opened with.
func Taken(ctx context.Context, engine *host.Engine, q *Request) []byte {
	line := []byte(OK[:len(OK)-1])
	if q.Want == 0 {
		return q.Want.append(line, after{})
	}
	a, err := position(ctx, engine)
	if err != nil {
		return Failure(err)
	}
	a.changed = true
	return q.Want.append(line, a)
}

// Answer runs a request that is no setup, and returns the line of its answer. n is the number of
// its action, or of the first action of its batch. Answer fails with [host.ErrDiverged] if the
// result is another one than a line of an export says, or the sequence of a note is, and if the core
// returned something that is no value; the line has this error, too.
func Answer(ctx context.Context, engine *host.Engine, q *Request, n int) ([]byte, error) {
	ctx, cancel := q.Bounded(ctx)
	defer cancel()
	switch q.Kind {
	case State:
		return answerState(ctx, engine, q)
	case Digest:
		return answerDigest(ctx, engine, q), nil
	case Batch:
		return answerBatch(ctx, engine, q, n)
	case Revert, Undo, Redo:
		return answerRewind(ctx, engine, q), nil
	case Note:
		return answerNote(ctx, engine, q)
	}
	var result host.Result
	err := q.ValueError
	if err == nil {
		result, err = engine.Dispatch(ctx, q.Action, q.Value, q.Options...)
	}
	if diverged := q.Recorded.check(result, err); diverged != nil {
		line, _ := outcome(nil, n, 0, host.Result{}, diverged) // an error always has a line
		return line, diverged
	}
	return outcome(nil, n, q.Want, result, err)
}

// Outcome returns the line of the n-th action, which wants nothing. It fails as [Answer] does.
func Outcome(n int, result host.Result, err error) ([]byte, error) {
	return outcome(nil, n, 0, result, err)
}

// outcome appends the line of an action. It fails as [Answer] does.
func outcome(line []byte, n int, w Want, result host.Result, err error) ([]byte, error) {
	start := len(line)
	line = fmt.Appendf(line, `{"n":%d`, n)
	if err == nil {
		written, err := msgjson.Append(append(line, `,"result":`...), result.Raw)
		if err == nil {
			return w.append(written, after{result.Sequence, result.Changed, result.HasDigest, result.Digest}), nil
		}
		line = fmt.Appendf(written[:start], `{"n":%d`, n)
		return appendError(append(line, ','), CodeBadResult, err.Error(), -1), err
	}
	return appendError(append(line, ','), host.CodeOf(err), Message(err), -1), nil
}

// CodeBadResult is the code of the error for an action whose result can't be written, because it
// is no value of a core.
const CodeBadResult = "bad_result"

// answerState returns the whole state, now or at the sequence that the line names. The digest that
// is wanted is that of the same state.
func answerState(ctx context.Context, engine *host.Engine, q *Request) ([]byte, error) {
	state, err := stateOf(ctx, engine, q)
	if err != nil {
		return Failure(err), nil
	}
	line, err := msgjson.Append([]byte(`{"state":`), state.Raw)
	if err != nil {
		return Error(CodeBadResult, err.Error()), err
	}
	return q.Want.append(line, after{state.Sequence, false, state.HasDigest, state.Digest}), nil
}

// stateOf returns the state that a line asks for.
func stateOf(ctx context.Context, engine *host.Engine, q *Request) (host.Result, error) {
	if q.HasAt {
		return engine.StateAt(ctx, q.At)
	}
	return engine.State(ctx, q.Options...)
}

// StateObject returns the answer to a question for a state, now or at the sequence that the
// request names, as one object with its sequence and its digest. It fails with the host's errors,
// and, as [Answer] does, if the state is no value.
func StateObject(ctx context.Context, engine *host.Engine, q *Request) ([]byte, error) {
	state, err := stateOf(ctx, engine, q)
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(nil, `{"sequence":%d,"digest":"%v","state":`, state.Sequence, state.Digest)
	if line, err = msgjson.Append(line, state.Raw); err != nil {
		return nil, badResult(err)
	}
	return append(line, '}'), nil
}

// answerDigest returns the digest, now or at the sequence that the line names.
func answerDigest(ctx context.Context, engine *host.Engine, q *Request) []byte {
	var a after
	var err error
	if q.HasAt {
		a.sequence = q.At
		a.digest, err = engine.DigestAt(ctx, q.At)
	} else {
		a, err = position(ctx, engine)
	}
	if err != nil {
		return Failure(err)
	}
	// The answer has the digest already.
	return (q.Want &^ WantDigest).append(fmt.Appendf(nil, `{"digest":"%v"`, a.digest), a)
}

// answerRewind goes back to an earlier state, or forth to one that was undone. The answer has the
// sequence and the digest whether or not they are wanted.
func answerRewind(ctx context.Context, engine *host.Engine, q *Request) []byte {
	var p host.Position
	var err error
	switch q.Kind {
	case Undo:
		p, err = engine.Undo(ctx, q.Options...)
	case Redo:
		p, err = engine.Redo(ctx, q.Options...)
	default:
		p, err = engine.Revert(ctx, q.To, q.Options...)
	}
	if err != nil {
		return Failure(err)
	}
	line := PositionObject(p)
	return (q.Want & WantChanged).append(line[:len(line)-1], after{changed: true})
}

// answerNote has the engine remember what a note says of a batch.
func answerNote(ctx context.Context, engine *host.Engine, q *Request) ([]byte, error) {
	err := engine.AddNote(ctx, &q.Remembered)
	var a after
	if err == nil && q.Want != 0 {
		a, err = position(ctx, engine)
	}
	if err != nil {
		line := Failure(err)
		if !errors.Is(err, host.ErrDiverged) {
			err = nil // the line has it
		}
		return line, err
	}
	return q.Want.append([]byte(OK[:len(OK)-1]), a), nil
}

// PositionObject returns the answer that a position is.
func PositionObject(p host.Position) []byte {
	return fmt.Appendf(nil, `{"sequence":%d,"digest":"%v"}`, p.Sequence, p.Digest)
}

// position returns an engine's sequence and digest.
func position(ctx context.Context, engine *host.Engine) (after, error) {
	at, err := engine.Position(ctx)
	return after{sequence: at.Sequence, hasDigest: true, digest: at.Digest}, err
}

// answerBatch runs a batch. If a member of an atomic batch fails, the answer is the error of that
// member, with its index. Otherwise the answer has a line for each member, as if the member were
// an action of its own.
func answerBatch(ctx context.Context, engine *host.Engine, q *Request, n int) ([]byte, error) {
	actions := make([]host.Action, 0, len(q.Members))
	for k, m := range q.Members {
		switch {
		case m.ValueError == nil:
			actions = append(actions, m.Action)
		case q.Mode == host.BatchAtomic:
			return batchFailure(&host.BatchError{Index: k, Err: m.ValueError}), nil
		}
	}
	result, err := engine.DispatchBatch(ctx, q.Mode, actions, q.Options...)
	if err != nil {
		return batchFailure(err), nil
	}
	line := []byte(`{"results":[`)
	var broken error
	for k, m := range q.Members {
		o := host.Outcome{Err: m.ValueError}
		if m.ValueError == nil {
			o, result.Outcomes = result.Outcomes[0], result.Outcomes[1:]
		}
		if k > 0 {
			line = append(line, ',')
		}
		if line, err = outcome(line, n+k, 0, o.Result, o.Err); err != nil {
			broken = err
		}
	}
	end := after{result.Sequence, result.Changed, result.HasDigest, result.Digest}
	return q.Want.append(append(line, ']'), end), broken
}

// batchFailure is the answer to a batch that failed as a whole.
func batchFailure(err error) []byte {
	var member *host.BatchError
	if errors.As(err, &member) {
		return appendError([]byte{'{'}, host.CodeOf(member.Err), Message(member.Err), member.Index)
	}
	return Failure(err)
}

// Failure returns the answer to a line that failed.
func Failure(err error) []byte { return Error(host.CodeOf(err), Message(err)) }

// ErrorOf returns the code and the message of an answer that is an error; "" if it is none.
func ErrorOf(answer []byte) (code, message string) {
	var a struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(answer, &a) != nil {
		return "", ""
	}
	return a.Error.Code, a.Error.Message
}

// headOfAnswer is how much of an answer has its error, or that of the first member of a batch.
const headOfAnswer = 96

// CodeOfFailure returns the code of an answer that is an error, or of the error of the first member of a
// batch, if it is one of the codes; "" otherwise. It is quick for other answers.
func CodeOfFailure(answer []byte, codes ...string) string {
	head := answer[:min(len(answer), headOfAnswer)]
	for _, code := range codes {
		if !bytes.Contains(head, []byte(`"error":{"code":"`+code+`"`)) {
			continue
		}
		if found, _ := ErrorOf(answer); found == code {
			return code
		}
		// A result may look like that, too.
		var batch struct {
			Results []struct {
				Error struct {
					Code string `json:"code"`
				} `json:"error"`
			} `json:"results"`
		}
		if json.Unmarshal(answer, &batch) == nil && len(batch.Results) > 0 && batch.Results[0].Error.Code == code {
			return code
		}
	}
	return ""
}

// BadLine is the answer to a line that can't be used.
func BadLine(number int, err error) []byte {
	return Error(host.ErrBadInput.Code, fmt.Sprintf("line %d: %v", number, err))
}

// BadSetup is the answer to a setup that was refused.
func BadSetup(number int, err error) []byte {
	return Error(host.CodeOf(err), fmt.Sprintf("line %d: setup: %s", number, Message(err)))
}

// Message is an error's text without its code.
func Message(err error) string {
	var a *host.ActionError
	var h *host.Error
	switch {
	case errors.As(err, &h):
		return h.Message
	case errors.As(err, &a):
		return a.Message
	}
	return err.Error()
}

// Error returns an answer that has an error.
func Error(code, message string) []byte { return appendError([]byte{'{'}, code, message, -1) }

// appendError appends an error to the members that an answer has so far, and closes the answer.
// index is the index of the member of a batch that failed, or -1.
func appendError(line []byte, code, message string, index int) []byte {
	e := struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Index   *int   `json:"index,omitempty"`
	}{code, message, nil}
	if index >= 0 {
		e.Index = &index
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(e) // two strings and a number always encode
	line = printable.AppendJSON(append(line, `"error":`...), bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return append(line, '}')
}
