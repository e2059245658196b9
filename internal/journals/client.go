package journals

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hypertoken/internal/msgjson"
	"hypertoken/internal/printable"
)

const (
	// maxAnswer bounds how many bytes of a server's answer are read.
	maxAnswer = 32 << 20
	// maxState is maxAnswer for a whole state, and for a line of a journal.
	maxState = 1 << 30
)

// Client asks a running server for what it alone can do with its directory.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// NewClient returns a client of the server at an address such as http://127.0.0.1:9464. token is
// "" if the server wants none. ca has the authorities that may sign its certificate, or is nil
// for those of the system.
func NewClient(address, token string, ca *x509.CertPool) (*Client, error) {
	full := address
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL such as http://127.0.0.1:9464: %w", address, errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q: the scheme is %q, want http or https", address, u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host; http://127.0.0.1:9464 does", address)
	}
	u.RawQuery, u.Fragment = "", ""
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if ca != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: ca}
	}
	// Redirects are not followed, because the token is meant for the named server only.
	return &Client{u, token, &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Info is what a server tells of a journal.
type Info struct {
	Name     string    `json:"name"`
	Place    string    `json:"place,omitempty"`
	Sequence uint64    `json:"sequence"`
	Bytes    uint64    `json:"bytes"`
	Created  time.Time `json:"created,omitzero"`
	Updated  time.Time `json:"updated,omitzero"`
	Core     string    `json:"core,omitempty"`
}

// List calls each with the journals whose names start with prefix and sort behind after, by name,
// until each returns false.
func (c *Client) List(ctx context.Context, prefix, after string, each func(Info) bool) error {
	for {
		var page struct {
			Engines []Info `json:"engines"`
			Next    string `json:"next"`
		}
		q := url.Values{"prefix": {prefix}, "after": {after}, "limit": {strconv.Itoa(MaxPage)}}
		if err := c.call(ctx, http.MethodGet, "v1/engines", q, nil, &page); err != nil {
			return err
		}
		for _, info := range page.Engines {
			if !each(info) {
				return nil
			}
		}
		if page.Next == "" {
			return nil
		}
		after = page.Next
	}
}

// Delete deletes an engine with all its history.
func (c *Client) Delete(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, enginePath(name), nil, nil, nil)
}

// Backup has the server write a backup of that name into the directory of its --backup-dir. It
// returns the bytes of the backup's files.
func (c *Client) Backup(ctx context.Context, name string) (bytes uint64, err error) {
	var made struct {
		Bytes uint64 `json:"bytes"`
	}
	err = c.call(ctx, http.MethodPost, "v1/backup", nil, map[string]string{"name": name}, &made)
	return made.Bytes, err
}

// Get returns what the server tells of an engine.
func (c *Client) Get(ctx context.Context, name string) (info Info, err error) {
	err = c.call(ctx, http.MethodGet, enginePath(name), nil, nil, &info)
	return info, err
}

// StateAt returns the state of an engine at a sequence, or now if hasAt is false.
func (c *Client) StateAt(ctx context.Context, name string, at uint64, hasAt bool) (State, error) {
	q := url.Values{}
	if hasAt {
		q.Set("at", strconv.FormatUint(at, 10))
	}
	var said struct {
		Sequence uint64          `json:"sequence"`
		Digest   string          `json:"digest"`
		State    json.RawMessage `json:"state"`
	}
	w, err := c.send(ctx, http.MethodGet, enginePath(name, "state"), q, nil)
	if err != nil {
		return State{}, err
	}
	defer func() { _ = w.Body.Close() }()
	if err := c.read(w, maxState, &said); err != nil {
		return State{}, err
	}
	s := State{Sequence: said.Sequence}
	if s.Digest, err = strconv.ParseUint(said.Digest, 16, 64); err == nil {
		s.Value, err = msgjson.Value(said.State)
	}
	if err != nil {
		return State{}, c.stranger(err)
	}
	return s, nil
}

// Journal calls each with the lines of an engine's journal, in order, each without its newline and
// only until each returns. query is that of the request: from, after and to. It fails with the
// first error of each, and if the journal is not complete.
func (c *Client) Journal(ctx context.Context, name string, query url.Values, each func(line []byte) error) error {
	w, err := c.send(ctx, http.MethodGet, enginePath(name, "journal"), query, nil)
	if err != nil {
		return err
	}
	defer func() { _ = w.Body.Close() }()
	if w.StatusCode != http.StatusOK {
		return c.read(w, maxAnswer, nil)
	}
	in := bufio.NewReaderSize(w.Body, 64<<10)
	for {
		line, err := readLine(in)
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("the server at %s: the journal is cut off: %w", c.base.Redacted(), err)
		case bytes.HasPrefix(line, []byte(`{"error":`)): // only the last line can be one
			return c.refusal(w.Status, line)
		}
		if err := each(line); err != nil {
			return err
		}
	}
}

// Position is where an engine is.
type Position struct {
	Name     string `json:"name,omitempty"`
	Sequence uint64 `json:"sequence"`
	Digest   string `json:"digest"`
}

// Rewind sends an engine a line that goes back to an earlier state, or forth again.
func (c *Client) Rewind(ctx context.Context, name string, line []byte) (p Position, err error) {
	w, err := c.send(ctx, http.MethodPost, enginePath(name), nil, bytes.NewReader(line))
	if err != nil {
		return p, err
	}
	defer func() { _ = w.Body.Close() }()
	var said struct {
		Position
		Error json.RawMessage `json:"error"`
	}
	if err := c.read(w, maxAnswer, &said); err != nil {
		return p, err
	}
	if said.Error != nil { // the status is that of the whole exchange
		return p, c.refusal(w.Status, fmt.Appendf(nil, `{"error":%s}`, said.Error))
	}
	return said.Position, nil
}

// Fork has the server make an engine of the state that another one has, or had at a sequence.
func (c *Client) Fork(ctx context.Context, from string, at uint64, hasAt bool, name string) (p Position, err error) {
	body := map[string]any{"name": name}
	if hasAt {
		body["at"] = at
	}
	err = c.call(ctx, http.MethodPost, enginePath(from, "fork"), nil, body, &p)
	return p, err
}

// Import has the server make an engine of the lines of an export.
func (c *Client) Import(ctx context.Context, name string, lines io.Reader) (p Position, err error) {
	w, err := c.send(ctx, http.MethodPut, enginePath(name, "journal"), nil, lines)
	if err != nil {
		return p, err
	}
	defer func() { _ = w.Body.Close() }()
	return p, c.read(w, maxAnswer, &p)
}

// readLine returns a line without its newline. At the end it fails with [io.EOF], and returns what
// there is of a line.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxState {
			return nil, fmt.Errorf("a line is longer than %d MiB", maxState>>20)
		}
		if err == nil {
			return line[:len(line)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// enginePath returns the path of an engine, or of something below it.
func enginePath(name string, below ...string) string {
	return strings.Join(append([]string{"v1/engines", url.PathEscape(name)}, below...), "/")
}

// call sends a request, with body as JSON unless it is nil, and reads the JSON of the answer into
// answer unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, answer any) error {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	w, err := c.send(ctx, method, path, query, &sent)
	if err != nil {
		return err
	}
	defer func() { _ = w.Body.Close() }()
	return c.read(w, maxAnswer, answer)
}

// send sends a request, whose body may be nil. The caller closes the body of the response.
func (c *Client) send(
	ctx context.Context, method, path string, query url.Values, body io.Reader,
) (*http.Response, error) {
	to := c.base.JoinPath(path)
	to.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, to.String(), body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	w, err := c.http.Do(r)
	if err == nil {
		return w, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return nil, fmt.Errorf("the server at %s: %w: %w", c.base.Redacted(), ErrUnreached, err)
}

// ErrUnreached is the error for a server that can't be reached, or that goes away before it answers.
var ErrUnreached = errors.New("it was not reached")

// Refusal is the error for an answer of a server that is no success.
type Refusal struct {
	// Status is that of the answer, such as 503, and Code that of the error; "" if it has none.
	Status int
	Code   string
	text   string
}

// Error implements error.
func (r *Refusal) Error() string { return r.text }

// read reads a response of at most so many bytes, and the JSON of it into answer unless that is
// nil. It fails for a status that is no success.
func (c *Client) read(w *http.Response, most int64, answer any) error {
	text, err := io.ReadAll(io.LimitReader(w.Body, most+1))
	switch {
	case err != nil:
		return fmt.Errorf("the server at %s: %w", c.base.Redacted(), err)
	case int64(len(text)) > most:
		return fmt.Errorf("the server at %s: the answer is longer than %d MiB", c.base.Redacted(), most>>20)
	case w.StatusCode/100 != 2:
		return c.refusal(w.Status, text)
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return c.stranger(err)
	}
	return nil
}

// stranger returns the error for an answer that is not one of 'hypertoken serve'.
func (c *Client) stranger(err error) error {
	return fmt.Errorf("the server at %s does not answer as 'hypertoken serve' does: %w", c.base.Redacted(), err)
}

// refusal returns the error for a status that is no success.
func (c *Client) refusal(status string, text []byte) error {
	var said struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	r := &Refusal{}
	number, _, _ := strings.Cut(status, " ")
	r.Status, _ = strconv.Atoi(number)
	if json.Unmarshal(text, &said) != nil || said.Error.Code == "" {
		r.text = fmt.Sprintf("the server at %s answers %s", c.base.Redacted(), printable.Line(status, 60))
		return r
	}
	r.Code = said.Error.Code
	next := ""
	if said.Error.Code == "unauthorized" {
		next = "; --token-file or HYPERTOKEN_TOKEN give the token"
	}
	r.text = fmt.Sprintf("the server at %s: %s: %s%s", c.base.Redacted(), printable.Line(said.Error.Code, 60),
		printable.Line(said.Error.Message, 500), next)
	return r
}
