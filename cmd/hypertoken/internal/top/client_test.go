package top

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"hypertoken/cmd/hypertoken/internal/top/toptest"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://127.0.0.1:9464":          "http://127.0.0.1:9464/metrics",
		"http://127.0.0.1:9464/":         "http://127.0.0.1:9464/metrics",
		"127.0.0.1:9464":                 "http://127.0.0.1:9464/metrics",
		"games":                          "http://games/metrics",
		"[::1]:9464":                     "http://[::1]:9464/metrics",
		"https://games/app/prom?a=b#c":   "https://games/app/prom?a=b",
		"http://games/metrics/":          "http://games/metrics/",
		"https://a:secret@games.example": "https://a:secret@games.example/metrics",
	} {
		if u, err := ParseURL(in); err != nil || u.String() != want {
			t.Errorf("%q is %v (%v), want %s", in, u, err, want)
		}
	}
	for in, want := range map[string]string{
		"ftp://games":      `the scheme is "ftp"`,
		"http://":          "names no host",
		"http://:9464":     "names no host",
		"":                 "names no host",
		"http://a b":       "is not a URL",
		"http://games:x":   "is not a URL",
		"http://games\x1b": "is not a URL",
	} {
		if u, err := ParseURL(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %v (%v), want an error with %q", in, u, err, want)
		}
	}
}

// clientOf returns a client of a server, with what change makes of its configuration.
func clientOf(t *testing.T, address string, change func(*Config)) *client {
	t.Helper()
	u, err := ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{URL: u, Timeout: time.Minute, Now: toptest.Clock()}
	if change != nil {
		change(&c)
	}
	made := newClient(c)
	t.Cleanup(made.http.CloseIdleConnections)
	return made
}

// serving returns the address of a server.
func serving(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// metricsOf returns metrics of n bytes.
func metricsOf(n int) []byte {
	b := []byte("hypertoken_workers 1\n#")
	return append(append(b, bytes.Repeat([]byte("x"), n-len(b)-1)...), '\n')
}

// An answer is read up to maxAnswer bytes, and no further, also if it is compressed.
func TestAnswersAreBounded(t *testing.T) {
	for _, c := range []struct {
		size   int
		zipped bool
		ok     bool
	}{
		{maxAnswer, false, true},
		{maxAnswer + 1, false, false},
		{maxAnswer, true, true},
		{maxAnswer + 1, true, false},
	} {
		body := metricsOf(c.size)
		if c.zipped {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write(body)
			_ = z.Close()
			body = b.Bytes()
		}
		r := clientOf(t, serving(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/metrics" {
				http.NotFound(w, r)
				return
			}
			if c.zipped {
				w.Header().Set("Content-Encoding", "gzip")
			}
			_, _ = w.Write(body)
		}), nil).read(t.Context())
		if (r.err == nil) != c.ok || !c.ok && r.err.Error() != "the answer is longer than 32 MiB" {
			t.Errorf("%d bytes, compressed %v: %v", c.size, c.zipped, r.err)
		}
	}
}

// If a server does not answer, or stops in the middle of an answer, the client waits for the
// timeout only.
func TestPatienceEnds(t *testing.T) {
	for name, say := range map[string]string{"nothing": "", "half": "hypertoken_workers 1\n"} {
		c := clientOf(t, serving(t, func(w http.ResponseWriter, r *http.Request) {
			if say != "" {
				_, _ = io.WriteString(w, say)
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}), func(c *Config) { c.Timeout = 50 * time.Millisecond })
		if r := c.read(t.Context()); r.err == nil || r.err.Error() != "no answer within 50ms" {
			t.Errorf("%s: %v", name, r.err)
		}
	}
}

// An answer without the requested metrics is an error that says what to try.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"no token": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
			"--token-file or HYPERTOKEN_TOKEN"},
		"another token": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
			"--token-file or HYPERTOKEN_TOKEN"},
		"no such path": {http.NotFound, "metrics are at another path"},
		"an error": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
			"it answers 503 Service Unavailable"},
		"too many": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
			"it answers 429 Too Many Requests; other requests from this machine"},
		"cut short": {func(w http.ResponseWriter, _ *http.Request) {
			_,
				_ = io.WriteString(w, "hypertoken_workers 1")
		}, "cut short"},
		"another's": {func(w http.ResponseWriter, _ *http.Request) {
			_,
				_ = io.WriteString(w, "go_goroutines 1\n")
		}, "no metrics of HyperToken (it answers with text/plain)"},
		"without a type": {func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil },
			"(it answers with no content type)"},
	} {
		if r := clientOf(t, serving(t, c.answer), nil).read(t.Context()); r.err == nil ||
			!strings.Contains(r.err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, r.err, c.want)
		}
	}
}

// A token goes to the server that was named, and to no other that it points to.
func TestTokens(t *testing.T) {
	other := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s is asked, with %q", r.URL, r.Header["Authorization"])
	})
	for _, c := range []struct{ token, want string }{{"secret", "Bearer secret"}, {"", ""}} {
		got := "nothing"
		r := clientOf(t, serving(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Get("Authorization")
			http.Redirect(w, r, other+"/metrics", http.StatusFound)
		}), func(o *Config) { o.Token = c.token }).read(t.Context())
		if got != c.want {
			t.Errorf("with token %q the server has %q, want %q", c.token, got, c.want)
		}
		if r.err == nil || !strings.Contains(r.err.Error(), "it answers 302 Found, and points to "+other) {
			t.Errorf("a redirect is %v", r.err)
		}
	}
}

// A server that has no status is not asked for it for a while. If it was gone in between, it is
// asked again at once.
func TestStatus(t *testing.T) {
	const json = "application/json"
	for name, c := range map[string]struct {
		code       int
		kind, body string
		has        bool
		err        string
		again      bool // it is asked for with each reading
	}{
		"there":                {200, json, toptest.Status, true, "", true},
		"none":                 {404, json, "", false, "", false},
		"another method's":     {405, "text/plain", "", false, "", false},
		"a page for any path":  {200, "text/html", "<html>", false, "", false},
		"failing":              {500, json, "{}", false, "it answers 500", true},
		"not for this token":   {403, json, "{}", false, "it answers 403", true},
		"broken":               {200, json, `{"errors":[{"at":"no time"}]}`, false, "its status can't be read", true},
		"with a charset":       {200, json + "; charset=utf-8", "{}", true, "", true},
		"another's, also JSON": {200, json, `[1]`, false, "its status can't be read", true},
	} {
		t.Run(name, func(t *testing.T) {
			asked, gone := 0, false
			client := clientOf(t, serving(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case gone:
					w.WriteHeader(503)
				case r.URL.Path == "/metrics":
					_, _ = io.WriteString(w, toptest.Metrics(0))
				case r.URL.Path == "/v1/status":
					asked++
					w.Header().Set("Content-Type", c.kind)
					w.WriteHeader(c.code)
					_, _ = io.WriteString(w, c.body)
				}
			}), nil)
			read := func(times, want int) {
				t.Helper()
				for range times {
					r := client.read(t.Context())
					if r.err != nil {
						t.Fatal(r.err)
					}
				}
				if c.again {
					want = times
				}
				if asked != want {
					t.Errorf("%d readings asked %d times for the status, want %d", times, asked, want)
				}
				asked = 0
			}
			r := client.read(t.Context())
			if r.err != nil {
				t.Fatal(r.err)
			}
			if has, err := r.sample.status != nil, fmt.Sprint(r.sample.statusErr); has != c.has || c.err == "" &&
				r.sample.statusErr != nil || !strings.Contains(err, c.err) {
				t.Errorf("a status %v and %v, want %v and %q", has, err, c.has, c.err)
			}
			asked = 0
			read(statusEvery, 0)
			read(1, 1)
			gone = true
			if r := client.read(t.Context()); r.err == nil {
				t.Error("it is not gone")
			}
			gone = false
			read(1, 1)
		})
	}
}

// As many errors of a status are kept as fit a screen.
func TestStatusIsBounded(t *testing.T) {
	for _, n := range []int{maxStatusErrors, maxStatusErrors + 1} {
		s, err := parseStatus([]byte(`{"errors":[` + strings.Repeat(`{"code":"a"},`, n-1) + `{"code":"b"}]}`))
		if err != nil || len(s.Errors) != maxStatusErrors {
			t.Errorf("of %d errors %d are kept (%v), want %d", n, len(s.Errors), err, maxStatusErrors)
		}
	}
}

// secure returns the address of a server whose certificate is for these names, and who signed it:
// itself.
func secure(t *testing.T, names ...string) (string, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if signer, err := x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	} else {
		pool.AddCert(signer)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			_, _ = io.WriteString(w, toptest.Metrics(0))
			return
		}
		http.NotFound(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return "localhost:" + u.Port(), pool
}

// A server's certificate must have the requested name. Other names in it can't control the
// terminal.
func TestCertificates(t *testing.T) {
	good, signer := secure(t, "localhost")
	trust := func(pool *x509.CertPool) func(*Config) { return func(c *Config) { c.CA = pool } }
	if r := clientOf(t, "https://"+good, trust(signer)).read(t.Context()); r.err != nil {
		t.Errorf("signed by who is trusted: %v", r.err)
	}
	bad, badSigner := secure(t, "games\x1b[2J\nOK")
	for name, c := range map[string]struct {
		address string
		pool    *x509.CertPool
		want    string
	}{
		"signed by another": {"https://" + good, badSigner, "name a file with the authority in --ca"},
		"signed by itself":  {"https://" + good, nil, "name a file with the authority in --ca"},
		"of another name":   {"https://" + bad, badSigner, "certificate is valid for games?[2J OK, not localhost"},
		"asked without TLS": {"http://" + good, nil, "it speaks HTTP over TLS; name it with https://"},
	} {
		r := clientOf(t, c.address, trust(c.pool)).read(t.Context())
		if r.err == nil || !strings.Contains(r.err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, r.err, c.want)
		}
	}
}

// A reading that is called off is over.
func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := clientOf(t, serving(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}), nil)
	if r := c.read(ctx); r.err == nil {
		t.Error("it has read what was never answered")
	}
}
