package peers

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// TLSFiles say how nodes prove to each other that they are nodes of the same cluster. A certificate is
// shown by both sides of a connection, so it has to be good for servers and for clients.
type TLSFiles struct {
	// Cert and Key are PEM files with the certificate of this node, and its private key.
	Cert, Key string
	// CA is a PEM file with the certificates of the authorities that sign those of nodes. Who has a
	// certificate of theirs is a node, so they should sign no other certificates.
	CA string
	// Name is what the certificate of each node has to be for. If it is "", a node that is called has
	// to have one for the host of its address, and the name of a caller does not matter.
	Name string
}

// IsSet reports whether a file is named.
func (f *TLSFiles) IsSet() bool { return f.Cert != "" || f.Key != "" || f.CA != "" || f.Name != "" }

// TLS is how a node speaks to the others if it uses TLS.
type TLS struct {
	name           string
	server, client *tls.Config
}

// handshakeTimeout bounds a handshake. A node that stands still is given up earlier, when it is
// declared dead.
const handshakeTimeout = 5 * time.Second

// LoadTLS reads the files. self is the address at which the other nodes reach this one. It fails if the
// other nodes would refuse the certificate, as long as they have the same CA and name.
func LoadTLS(f TLSFiles, self string) (*TLS, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("the certificate and its key: %w", err)
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("the CA: %w", err)
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("the CA: %s has no certificate in PEM form", f.CA)
	}
	t := &TLS{name: f.Name}
	if err := t.check(&pair, ca, self); err != nil {
		return nil, fmt.Errorf("the other nodes would refuse the certificate %s: %w", f.Cert, err)
	}
	t.server = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: ca, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"http/1.1"}, VerifyConnection: t.verifyName}
	t.client = &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		// The certificate is sent even if the other node wants one of another CA: it says then what is wrong.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
	return t, nil
}

// check fails if another node would refuse a certificate.
func (t *TLS) check(pair *tls.Certificate, ca *x509.CertPool, self string) error {
	name, err := t.nameOf(self)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	for _, use := range []struct {
		name  string
		usage x509.ExtKeyUsage
	}{{"server's", x509.ExtKeyUsageServerAuth}, {"client's", x509.ExtKeyUsageClientAuth}} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: ca, Intermediates: between,
			KeyUsages: []x509.ExtKeyUsage{use.usage}})
		if err != nil {
			return fmt.Errorf("as a %s: %w", use.name, err)
		}
	}
	return pair.Leaf.VerifyHostname(name)
}

// nameOf returns what the certificate of the node at an address has to be for.
func (t *TLS) nameOf(address string) (string, error) {
	if t.name != "" {
		return t.name, nil
	}
	host, _, err := net.SplitHostPort(address)
	return host, err
}

// verifyName fails if the certificate of a caller is for another name.
func (t *TLS) verifyName(s tls.ConnectionState) error {
	if t.name == "" {
		return nil
	}
	return s.PeerCertificates[0].VerifyHostname(t.name)
}

// Listen returns a listener that accepts nodes only. Without TLS it is the same listener.
func (t *TLS) Listen(l net.Listener) net.Listener {
	if t == nil {
		return l
	}
	return tls.NewListener(l, t.server)
}

// scheme is that of the addresses of other nodes.
func (t *TLS) scheme() string {
	if t == nil {
		return "http"
	}
	return "https"
}

// dialer returns what connects to another node by TLS. All its errors are those of a dial: nothing of a
// request was sent.
func (t *TLS) dialer(d *dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	if t == nil {
		return nil
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		secured, err := t.secure(ctx, c, address)
		if err != nil {
			_ = c.Close()
			return nil, &net.OpError{Op: "dial", Net: network, Addr: c.RemoteAddr(), Err: fmt.Errorf("TLS: %w", err)}
		}
		return secured, nil
	}
}

// secure makes a connection to another node one by TLS. It waits for an answer of the node: the
// handshake itself has ended here before the other side has looked at this node's certificate.
func (t *TLS) secure(ctx context.Context, c net.Conn, address string) (*tls.Conn, error) {
	config := t.client.Clone()
	var err error
	if config.ServerName, err = t.nameOf(address); err != nil {
		return nil, err
	}
	secured := tls.Client(c, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	if _, err := fmt.Fprintf(secured, "HEAD %s HTTP/1.1\r\nHost: node\r\n\r\n", helloPath); err != nil {
		return nil, err
	}
	answer := bufio.NewReader(secured)
	r, err := http.ReadResponse(answer, &http.Request{Method: http.MethodHead})
	if err != nil {
		return nil, err
	}
	_ = r.Body.Close() // the answer to HEAD has none
	if answer.Buffered() > 0 {
		return nil, errors.New("the node says more than it was asked")
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return secured, nil
}

// helloPath is what a node asks for first on a connection by TLS. Any answer shows that the other node
// has accepted its certificate.
const helloPath = "/node/"
