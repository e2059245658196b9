package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// How calls of applications come to the node that has the engine. They are sent as lines are; what
// a call is, only its sender and its receiver know.

// The paths of calls, and of what withdraws one. The handler of whole requests answers them.
const (
	CallPath       = "/calls/"
	WithdrawalPath = "/withdrawals/"
	EventPath      = "/events/"
)

// nameMark stands before the name of an engine in a path, so that no name is "." or "..".
const nameMark = "="

// NameIn returns the name of the engine that a request of another node is about.
func NameIn(r *http.Request) string { return strings.TrimPrefix(r.PathValue("name"), nameMark) }

// ErrNoEngine says that there is no engine of a name.
var ErrNoEngine = errors.New("there is no such engine")

// Call has another node answer calls about an engine, and returns the answer. It fails as
// [Peers.Send] does.
func (p *Peers) Call(ctx context.Context, to Owner, engine string, calls []byte) ([]byte, error) {
	ctx, end := p.beginSending(ctx, to.Address)
	defer end()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: it is no member any more", ErrUnreached)
	}
	address := p.o.TLS.scheme() + "://" + to.Address + requestPath + CallPath + nameMark + url.PathEscape(engine)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	d := &delivery{}
	d.setBody(r, calls)
	r.Header.Set("Authorization", "Bearer "+p.o.Secret)
	if p.isDraining(to.Address) {
		r.Header.Set(headerExpect, expectContinue)
	}
	w, err := p.client.Do(r)
	if err != nil {
		return nil, sendError(err, d)
	}
	defer w.Body.Close()
	body, err := io.ReadAll(w.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	return body, p.refusal(w, engine, body)
}

// refusal returns the error of a request about an engine that another node has not taken; nil if
// it has.
func (p *Peers) refusal(w *http.Response, engine string, body []byte) error {
	switch {
	case w.StatusCode == http.StatusMisdirectedRequest:
		var owner Owner
		if err := json.Unmarshal(body, &owner); err != nil {
			return fmt.Errorf("%w: %w", ErrUnreached, err)
		}
		return p.hasMoved(engine, owner)
	case w.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNoEngine, bytes.TrimSpace(body))
	case w.StatusCode != http.StatusOK: // it stops, or wants another secret, or is an older program
		return fmt.Errorf("%w: it says %s: %s", ErrUnreached, w.Status, bytes.TrimSpace(body))
	}
	return nil
}

// Listen asks another node for the events of an engine, and returns them as they come. The caller
// calls end. They end if the node dies. It fails as [Peers.Send] does.
func (p *Peers) Listen(ctx context.Context, to Owner, engine, event string) (events io.Reader, end func(), err error) {
	ctx, ended := p.beginSending(ctx, to.Address)
	address := p.o.TLS.scheme() + "://" + to.Address + requestPath + EventPath + nameMark + url.PathEscape(engine) + "?event=" +
		url.QueryEscape(event)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err == nil {
		r.Header.Set("Authorization", "Bearer "+p.o.Secret)
		var w *http.Response
		if w, err = p.client.Do(r); err == nil {
			if w.StatusCode == http.StatusOK {
				return w.Body, func() { ended(); _ = w.Body.Close() }, nil
			}
			body, _ := io.ReadAll(w.Body)
			_ = w.Body.Close()
			ended()
			return nil, nil, p.refusal(w, engine, body)
		}
	}
	ended()
	return nil, nil, fmt.Errorf("%w: %w", ErrUnreached, err) // nothing of a question has run
}

// Withdraw has another node withdraw a call that was sent there. It reports whether the node had
// the call.
func (p *Peers) Withdraw(ctx context.Context, to Owner, id string) (had bool, err error) {
	address := p.o.TLS.scheme() + "://" + to.Address + requestPath + WithdrawalPath + url.PathEscape(id)
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, address, nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Authorization", "Bearer "+p.o.Secret)
	w, err := p.client.Do(r)
	if err != nil {
		return false, err
	}
	_ = w.Body.Close()
	return w.StatusCode == http.StatusNoContent, nil
}

// Misdirected answers that this node does not have an engine. err says who has, as far as it is
// known.
func (p *Peers) Misdirected(w http.ResponseWriter, err error) {
	owner, _ := p.ownerOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusMisdirectedRequest)
	_ = json.NewEncoder(w).Encode(owner)
}
