package peers

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
)

// requestPath is the path under which a node answers whole requests of other nodes.
const requestPath = "/node/requests"

// errNotThere says that the other node does not have the engine, or does not take the request.
var errNotThere = errors.New("the node does not have the engine any more")

// ErrSpent says that the body of a request was read, so that the request can't be sent again.
var ErrSpent = errors.New("and the body was sent already")

// Proxy has another node answer a whole request. It fails if the client has got nothing of an answer:
// with [ErrUnreached] if nothing of the request ran, with [ErrLost] if it may have. The error is also
// [ErrSpent] if the request can't be sent again. Then the node is forgotten as the owner of the engine.
// If that node is declared dead, Proxy does not wait for it any more.
func (p *Peers) Proxy(w http.ResponseWriter, r *http.Request, to Owner, engine string) (failed error) {
	ctx, end := p.beginSending(r.Context(), to.Address)
	defer end()
	if ctx.Err() != nil {
		p.Forget(engine)
		return fmt.Errorf("%w: it is no member any more", ErrUnreached)
	}
	r = r.WithContext(ctx)
	var d *delivery
	if r.Body != nil && r.Body != http.NoBody {
		d = &delivery{}
		r.Body = &noticedBody{r.Body, d}
	}
	proxy := httputil.ReverseProxy{
		Transport: p.client.Transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(x *httputil.ProxyRequest) {
			x.Out.URL.Scheme, x.Out.URL.Host, x.Out.Host = p.o.TLS.scheme(), to.Address, to.Address
			x.Out.URL.Path, x.Out.URL.RawPath = requestPath+x.In.URL.Path, ""
			x.Out.Header.Set("Authorization", "Bearer "+p.o.Secret)
			if d != nil {
				x.Out.Header.Set(headerExpect, expectContinue)
			}
		},
		ModifyResponse: func(w *http.Response) error {
			if w.StatusCode == http.StatusMisdirectedRequest || w.StatusCode == http.StatusUnauthorized {
				return errNotThere
			}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			p.Forget(engine)
			failed = sendError(err, d)
			if errors.Is(err, errNotThere) {
				failed = fmt.Errorf("%w: %w", ErrUnreached, err)
			}
			if d != nil && !d.withdraw() {
				failed = fmt.Errorf("%w, %w", failed, ErrSpent)
			}
		},
	}
	proxy.ServeHTTP(w, r)
	return failed
}
