package peers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority signs certificates of nodes.
type authority struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{dir: t.TempDir()}
	a.file = filepath.Join(a.dir, "ca.pem")
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

var bothUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

// issue returns the files of a certificate for a name or an address.
func (a *authority) issue(t *testing.T, host string, change ...func(*x509.Certificate)) TLSFiles {
	c := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		ExtKeyUsage: bothUsages}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	for _, f := range change {
		f(c)
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: a.file}
	writePEM(t, f.Cert, "CERTIFICATE", der)
	writePEM(t, f.Key, "EC PRIVATE KEY", keyDER)
	return f
}

// load loads files that are right.
func load(t *testing.T, f TLSFiles) *TLS {
	t.Helper()
	s, err := LoadTLS(f, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newTLSNode returns the peers of a node that uses TLS, or none with nil.
func newTLSNode(t *testing.T, self string, s *TLS) *Peers {
	p := New(Options{Self: self, Secret: testSecret, OwnerOf: ownerOf, SlotOf: func(string) int { return 0 },
		IsAlive: always, Ready: func() string { return "" }, MaxLine: 64, TLS: s})
	t.Cleanup(p.Close)
	return p
}

// serveTLSNode starts a node that answers lines and requests, and returns it as an owner.
func serveTLSNode(t *testing.T, s *TLS, answer answerFunc, requests http.HandlerFunc) Owner {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	server := &http.Server{Handler: newTLSNode(t, address, s).Handler(answer, requests), ReadHeaderTimeout: time.Minute,
		ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error)
	go func() { served <- server.Serve(s.Listen(l)) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return Owner{Address: address, Epoch: 1}
}

func TestLinesAndRequestsByTLS(t *testing.T) {
	nodes := newAuthority(t, "nodes")
	byHost := nodes.issue(t, "127.0.0.1")
	byName := nodes.issue(t, "hypertoken-node")
	byName.Name = "hypertoken-node"
	for name, f := range map[string]TLSFiles{"the host of the address": byHost, "one name of all nodes": byName} {
		t.Run(name, func(t *testing.T) {
			s := load(t, f)
			to := serveTLSNode(t, s, echo, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.Method+" "+r.URL.Path)
			})
			p := newTLSNode(t, "first", s)
			for range 3 { // on one connection
				a, err := p.Send(t.Context(), to, "e", []byte("line"), 409)
				if err != nil || string(a.Line) != "e line" || a.Status != 409 {
					t.Fatalf("%+v %v", a, err)
				}
			}
			w := httptest.NewRecorder()
			p.Proxy(w, httptest.NewRequest(http.MethodDelete, "/v1/engines/e", nil), to, "e")
			if w.Code != http.StatusOK || w.Body.String() != "DELETE /v1/engines/e" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// Two processes of which one is no node of the other's cluster run nothing for each other, and the one
// that asks knows that nothing ran.
func TestOthersThanNodesRunNothing(t *testing.T) {
	nodes, others := newAuthority(t, "nodes"), newAuthority(t, "others")
	node := nodes.issue(t, "127.0.0.1")
	named := nodes.issue(t, "hypertoken-node")
	named.Name = "hypertoken-node"
	foreign := others.issue(t, "127.0.0.1")
	// It takes the servers of the nodes for what they are, and shows a certificate that is not theirs.
	intruder := load(t, foreign)
	intruder.client.RootCAs = load(t, node).client.RootCAs
	mute := load(t, node)
	mute.client.GetClientCertificate = nil
	misnamed := load(t, node) // it looks for the right name, and shows another one
	misnamed.name = "hypertoken-node"
	for _, row := range []struct {
		name          string
		asking, asked *TLS
		message       string
	}{
		{"each has another CA", load(t, foreign), load(t, node), "unknown authority"},
		{"a caller with a certificate of another CA", intruder, load(t, node), "remote error: tls: unknown certificate authority"},
		{"a caller without a certificate", mute, load(t, node), "remote error: tls: certificate required"},
		{"a caller with another name", misnamed, load(t, named), "remote error: tls: bad certificate"},
		{"the node has another name", load(t, named), load(t, node), "hypertoken-node"},
		{"the node uses no TLS", load(t, node), nil, "does not look like a TLS handshake"},
		{"only the node uses TLS", nil, load(t, node), "HTTP request to an HTTPS server"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var runs atomic.Int32
			to := serveTLSNode(t, row.asked,
				func(context.Context, string, []byte, int) (Answer, error) { runs.Add(1); return Answer{}, nil },
				func(http.ResponseWriter, *http.Request) { runs.Add(1) })
			p := newTLSNode(t, "first", row.asking)
			_, err := p.Send(t.Context(), to, "e", []byte("line"), 1)
			if !errors.Is(err, ErrUnreached) || errors.Is(err, ErrLost) || !strings.Contains(err.Error(), row.message) {
				t.Errorf("%v, want %q", err, row.message)
			}
			if row.asking != nil {
				r := httptest.NewRequest(http.MethodDelete, "/v1/engines/e", nil)
				err := p.Proxy(httptest.NewRecorder(), r, to, "e")
				if !errors.Is(err, ErrUnreached) || !strings.Contains(err.Error(), row.message) {
					t.Errorf("a whole request: %v, want %q", err, row.message)
				}
			}
			if runs.Load() != 0 {
				t.Error("something ran")
			}
		})
	}
}

func TestFilesOfTLSAreChecked(t *testing.T) {
	nodes, others := newAuthority(t, "nodes"), newAuthority(t, "others")
	good := nodes.issue(t, "127.0.0.1")
	with := func(change func(*TLSFiles)) TLSFiles {
		f := good
		change(&f)
		return f
	}
	for _, row := range []struct {
		name, want string
		files      TLSFiles
	}{
		{"no file", "no such file", with(func(f *TLSFiles) { f.Cert = filepath.Join(t.TempDir(), "none") })},
		{"no key", "no such file", with(func(f *TLSFiles) { f.Key = filepath.Join(t.TempDir(), "none") })},
		{"the key of another certificate", "private key does not match",
			with(func(f *TLSFiles) { f.Key = nodes.issue(t, "127.0.0.1").Key })},
		{"no CA", "the CA: open ", with(func(f *TLSFiles) { f.CA = filepath.Join(t.TempDir(), "none") })},
		{"a CA that is none", "has no certificate in PEM form", with(func(f *TLSFiles) { f.CA = good.Key })},
		{"another CA", "signed by unknown authority", with(func(f *TLSFiles) { f.CA = others.file })},
		{"another host", "valid for 10.0.0.5, not 127.0.0.1", nodes.issue(t, "10.0.0.5")},
		{"another name", "hypertoken-node", with(func(f *TLSFiles) { f.Name = "hypertoken-node" })},
		{"for servers only", "as a client's: x509: certificate specifies an incompatible key usage",
			nodes.issue(t, "127.0.0.1", func(c *x509.Certificate) { c.ExtKeyUsage = bothUsages[:1] })},
		{"for clients only", "as a server's: x509: certificate specifies an incompatible key usage",
			nodes.issue(t, "127.0.0.1", func(c *x509.Certificate) { c.ExtKeyUsage = bothUsages[1:] })},
		{"expired", "expired",
			nodes.issue(t, "127.0.0.1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })},
	} {
		if _, err := LoadTLS(row.files, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}

// A node that stands still accepts connections. It is waited for until the line's time is over.
func TestANodeThatDoesNotShakeHands(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := load(t, newAuthority(t, "nodes").issue(t, "127.0.0.1"))
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	secured := make(chan error)
	go func() {
		_, err := s.secure(ctx, c, l.Addr().String())
		secured <- err
	}()
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if _, err := io.ReadFull(other, make([]byte, 5)); err != nil { // the handshake has begun
		t.Fatal(err)
	}
	cancel()
	if err := <-secured; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
