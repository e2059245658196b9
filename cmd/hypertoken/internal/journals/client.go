package journals

import (
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

	"hypertoken/internal/printable"
)

// maxAnswer bounds how many bytes of a server's answer are read.
const maxAnswer = 32 << 20

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
	return c.call(ctx, http.MethodDelete, "v1/engines/"+url.PathEscape(name), nil, nil, nil)
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

// call sends a request, with body as JSON unless it is nil, and reads the JSON of the answer into
// answer unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, answer any) error {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return err
		}
	}
	to := c.base.JoinPath(path)
	to.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, to.String(), &sent)
	if err != nil {
		return err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	w, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err
		}
		return fmt.Errorf("the server at %s: %w", c.base.Redacted(), err)
	}
	defer func() { _ = w.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(w.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("the server at %s: %w", c.base.Redacted(), err)
	case len(text) > maxAnswer:
		return fmt.Errorf("the server at %s: the answer is longer than %d MiB", c.base.Redacted(), maxAnswer>>20)
	case w.StatusCode/100 != 2:
		return c.refusal(w.Status, text)
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("the server at %s does not answer as 'hypertoken serve' does: %w", c.base.Redacted(), err)
	}
	return nil
}

// refusal returns the error for a status that is no success.
func (c *Client) refusal(status string, text []byte) error {
	var said struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(text, &said) != nil || said.Error.Code == "" {
		return fmt.Errorf("the server at %s answers %s", c.base.Redacted(), printable.Line(status, 60))
	}
	next := ""
	if said.Error.Code == "unauthorized" {
		next = "; --token-file or HYPERTOKEN_TOKEN give the token"
	}
	return fmt.Errorf("the server at %s: %s: %s%s", c.base.Redacted(), printable.Line(said.Error.Code, 60),
		printable.Line(said.Error.Message, 500), next)
}
