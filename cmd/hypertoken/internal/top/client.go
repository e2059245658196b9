package top

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"syscall"
	"time"

	"hypertoken/internal/printable"
)

const (
	// maxAnswer bounds how many bytes of a server's answer are read, decompressed.
	maxAnswer = 32 << 20
	// statusEvery is how many readings a server that has no status is left alone for.
	statusEvery = 30
)

// ParseURL completes the address of a server: http:// if it names no scheme, /metrics if it has no
// path.
func ParseURL(s string) (*url.URL, error) {
	full := s
	if !strings.Contains(s, "://") {
		full = "http://" + s
	}
	u, err := url.Parse(full)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL such as http://127.0.0.1:9464: %w", s, errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q: the scheme is %q, want http or https", s, u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host; http://127.0.0.1:9464 does", s)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/metrics"
	}
	u.Fragment = ""
	return u, nil
}

// client asks one server. One reading is made at a time.
type client struct {
	metrics, status string
	cluster         string
	name            string // the metrics' address, for people: without a password
	token           string
	http            *http.Client
	timeout         time.Duration
	now             func() time.Time
	skipStatus      int // readings that are left until the status is asked for again
}

func newClient(c Config) *client {
	beside := func(name string) string {
		u := *c.URL
		u.Path, u.RawPath, u.RawQuery = path.Join(path.Dir(c.URL.Path), name), "", ""
		return u.String()
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CA != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: c.CA}
	}
	return &client{
		metrics: c.URL.String(), status: beside("v1/status"), cluster: beside("v1/cluster"), name: c.URL.Redacted(),
		token: c.Token, timeout: c.Timeout, now: c.Now,
		// Redirects are not followed, because the token is meant for the named server only.
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request,
			[]*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
}

// reading is the result of asking a server once: a sample, or the error.
type reading struct {
	at     time.Time
	sample *sample
	err    error
}

// read asks for the metrics and, if the server has one, for its status.
func (c *client) read(ctx context.Context) reading {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, at, err := c.readMetrics(ctx)
	if err != nil {
		c.skipStatus = 0 // the next server at this address may be another one, which has a status
		return reading{at: at, err: err}
	}
	if c.skipStatus--; c.skipStatus < 0 {
		s.status, s.statusErr = c.readStatus(ctx)
		if s.status == nil && s.statusErr == nil {
			c.skipStatus = statusEvery
		}
	}
	if s.families[membersMetric] != nil {
		s.cluster, s.clusterErr = c.readCluster(ctx)
	}
	return reading{at: at, sample: s}
}

func (c *client) readMetrics(ctx context.Context) (*sample, time.Time, error) {
	response, err := c.get(ctx, c.metrics, "text/plain;version=0.0.4")
	at := c.now() // a server counts before it answers
	if err != nil {
		return nil, at, c.explain(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, at, refusal(response)
	}
	body, err := bounded(response.Body)
	if err != nil {
		return nil, at, c.explain(err)
	}
	s, err := parseMetrics(body)
	if errors.Is(err, errForeign) {
		kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
		if kind == "" {
			kind = "no content type"
		}
		return nil, at, fmt.Errorf("%w (it answers with %s); name the address of 'hypertoken serve', "+
			"or the path of an application that registers hypertoken/metrics", err, printable.Line(kind, 60))
	}
	if err != nil {
		return nil, at, err
	}
	s.at, s.server = at, at
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		s.server = date
	}
	return s, at, nil
}

// readStatus returns the server's status. If the server has none, it returns nil without an error.
func (c *client) readStatus(ctx context.Context) (*status, error) {
	body, err := c.readJSON(ctx, c.status)
	if body == nil || err != nil {
		return nil, err
	}
	return parseStatus(body)
}

// readCluster returns the cluster of the server. If the server does not say, it returns nil without an
// error.
func (c *client) readCluster(ctx context.Context) (*overview, error) {
	body, err := c.readJSON(ctx, c.cluster)
	if body == nil || err != nil {
		return nil, err
	}
	return parseOverview(body)
}

// readJSON returns the server's answer to a request for JSON; nil if there is nothing at the address.
func (c *client) readJSON(ctx context.Context, address string) ([]byte, error) {
	response, err := c.get(ctx, address, "application/json")
	if err != nil {
		return nil, c.explain(err)
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode == http.StatusNotFound, response.StatusCode == http.StatusMethodNotAllowed:
		return nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, refusal(response)
	}
	body, err := bounded(response.Body)
	if err != nil {
		return nil, c.explain(err)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "application/json" {
		return nil, nil // the application answers every path with some page
	}
	return body, nil
}

func (c *client) get(ctx context.Context, to, accept string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(request)
}

func bounded(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d MiB", maxAnswer>>20)
	}
	return body, err
}

// refusal returns the error for an HTTP status other than 200. It says what to do.
func refusal(r *http.Response) error {
	status := printable.Line(r.Status, 60)
	switch r.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("it answers %s; --token-file or HYPERTOKEN_TOKEN give the token that it wants", status)
	case http.StatusNotFound:
		return fmt.Errorf("it answers %s; metrics are at another path, or on another port", status)
	case http.StatusTooManyRequests:
		return fmt.Errorf("it answers %s; other requests from this machine count too "+
			"('hypertoken serve --rate')", status)
	case http.StatusBadRequest:
		if said, _ := io.ReadAll(io.LimitReader(r.Body, 200)); strings.Contains(string(said), "HTTPS server") {
			return errors.New("it speaks HTTP over TLS; name it with https://")
		}
	}
	if to := r.Header.Get("Location"); to != "" {
		return fmt.Errorf("it answers %s, and points to %s", status, printable.Line(to, 200))
	}
	return fmt.Errorf("it answers %s", status)
}

// explain returns an error that says in a few words what went wrong, and what to try. Texts from
// the server, such as the names in its certificate, are made printable.
func (c *client) explain(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	var (
		authority x509.UnknownAuthorityError
		record    tls.RecordHeaderError
		network   net.Error
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return fmt.Errorf("no answer within %v", c.timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		return syscall.ECONNREFUSED
	case errors.As(err, &authority):
		return fmt.Errorf("no authority that is known here has signed its certificate; "+
			"name a file with the authority in --ca: %s", printable.Line(err.Error(), 300))
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return errors.New("it speaks HTTP without TLS; name it with http://")
	}
	return errors.New(printable.Line(err.Error(), 300))
}
