package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hypertoken/host"
)

// guard returns the problem if a request must be refused, or nil. A request that is refused for
// its host, its token or its origin is counted against a rate of its own. So such requests take
// nothing from clients with the same address.
func (s *Server) guard(a route, r *http.Request) *problem {
	if p := s.stranger(a, r); p != nil {
		if !s.strangers.of(r.RemoteAddr).Allow() {
			return tooFast("more than %d requests a second were refused for this address: try again a second later",
				s.strangers.limit)
		}
		return p
	}
	if a.open {
		return nil
	}
	rates := &s.rates
	if a.watching {
		rates = &s.watchers
	}
	if !rates.of(r.RemoteAddr).Allow() {
		return tooFast("more than %d lines and requests a second came from this address (--rate): try again a second later", rates.limit)
	}
	if !a.talking {
		return nil
	}
	if s.draining.Err() != nil {
		return stopping()
	}
	if c := connectionOf(r.Context()); c != nil {
		return c.of.vacant(c)
	}
	return nil
}

func tooFast(format string, args ...any) *problem {
	return tooMany(http.StatusTooManyRequests, "rate_limited", format, args...)
}

// stranger returns the problem if a request is not from a client of this server, or nil.
func (s *Server) stranger(a route, r *http.Request) *problem {
	if !s.hosts.allow(r.Host) {
		return refused(http.StatusForbidden, "forbidden",
			"the Host %q is not a name of this server: ask for localhost or 127.0.0.1, or name it in --allowed-hosts",
			clip(r.Host))
	}
	if a.open {
		return nil
	}
	if s.o.Token != "" && !s.authorized(r) {
		return refused(http.StatusUnauthorized, "unauthorized",
			"this server wants its token: send Authorization: Bearer TOKEN, "+
				"or for a WebSocket of a browser the subprotocols %s and %sBASE64URL", subprotocol, tokenProtocol)
	}
	if err := s.sameOrigin(r); err != nil {
		return refused(http.StatusForbidden, "forbidden",
			"a page of another site may not do this (%v): call from a program, "+
				"from the server's own origin, or from one that --allowed-origins names", err)
	}
	return nil
}

func stopping() *problem {
	return refused(http.StatusServiceUnavailable, host.ErrShutdown.Code,
		"the server is shutting down: try again when it is back")
}

func digest(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// The subprotocol of a WebSocket, and the prefix of a subprotocol that contains the token. A page
// has no other way to send the token.
const (
	subprotocol   = "hypertoken"
	tokenProtocol = "hypertoken.token."
)

// authorized reports whether a request has the token. It compares digests, so the time of the
// comparison does not depend on the token's bytes or length.
func (s *Server) authorized(r *http.Request) bool {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	have := digest(strings.TrimSpace(shown))
	if subtle.ConstantTimeCompare(have[:], s.token[:]) == 1 && strings.EqualFold(scheme, "Bearer") {
		return true
	}
	if !upgrades(r) {
		return false
	}
	for _, list := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(list, ",") {
			encoded, ok := strings.CutPrefix(strings.TrimSpace(name), tokenProtocol)
			if !ok {
				continue
			}
			shown, err := base64.RawURLEncoding.DecodeString(encoded)
			have := digest(string(shown))
			return subtle.ConstantTimeCompare(have[:], s.token[:]) == 1 && err == nil
		}
	}
	return false
}

// sameOrigin refuses a request that a browser sends for the page of another site, if the request
// could have an effect. A WebSocket is opened by a GET, which pages of other sites may send.
func (s *Server) sameOrigin(r *http.Request) error {
	if upgrades(r) {
		r = r.Clone(r.Context())
		r.Method = http.MethodPost
	}
	err := s.cross.Check(r)
	if err != nil && s.isMember(r.Header.Get("Origin")) {
		return nil
	}
	return err
}

// isMember reports whether an origin is that of a node of the cluster. Its pages go on here when it
// dies. They may: what a page of a node can do here, it could do there, too.
func (s *Server) isMember(origin string) bool {
	return origin != "" && slices.Contains(s.o.Peers.Origins(), origin)
}

// share lets pages of the origins that --allowed-origins names, and pages of other nodes of the cluster,
// read answers, and answers the question that browsers ask before a request (CORS). It reports whether
// the request was that question.
func (s *Server) share(a route, w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if len(s.o.AllowedOrigins) == 0 && s.o.Peers == nil {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	if !slices.Contains(s.o.AllowedOrigins, origin) && !s.isMember(origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" || !s.hosts.allow(r.Host) {
		return false
	}
	h.Set("Access-Control-Allow-Methods", strings.Join(a.allowed(), ", "))
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// hosts are the names that a server answers to, in the Host of a request.
type hosts struct {
	any   bool
	names map[string]bool // in small letters, with a port or without
}

// newHosts returns the names of a server. Without a list it answers to any name if clients have to
// show a token. Otherwise it answers to those of this machine only: a page of another site can
// make its own name resolve to this machine, and would be of the same origin then.
func newHosts(o Options) hosts {
	h := hosts{any: len(o.AllowedHosts) == 0 && o.Token != "", names: map[string]bool{}}
	for _, name := range o.AllowedHosts {
		h.any = h.any || name == "*"
		h.names[canonicalHost(name)] = true
	}
	return h
}

// allow reports whether a request may have this Host. A request without one is not a browser's.
func (h hosts) allow(hostport string) bool {
	if h.any || hostport == "" || localName(hostport) {
		return true
	}
	return h.names[canonicalHost(hostport)] || h.names[canonicalHost(hostName(hostport))]
}

// canonicalHost returns a name, with a port or without, in small letters and without the dot that
// ends a full name.
func canonicalHost(hostport string) string {
	hostport = strings.ToLower(hostport)
	if name, port, err := net.SplitHostPort(hostport); err == nil {
		return net.JoinHostPort(strings.TrimSuffix(name, "."), port)
	}
	return strings.TrimSuffix(strings.Trim(hostport, "[]"), ".")
}

// hostName returns the name in a Host header, without its port.
func hostName(hostport string) string {
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		return name
	}
	return strings.Trim(hostport, "[]")
}

// localName reports whether a Host header names this machine.
func localName(hostport string) bool {
	name := hostName(canonicalHost(hostport))
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}

// validateNames checks the lists of hosts and origins.
func (o *Options) validateNames() error {
	for _, name := range o.AllowedHosts {
		if name == "" || strings.ContainsAny(name, "/@ \t") || strings.Contains(name, "*") && name != "*" {
			return fmt.Errorf("--allowed-hosts has %q: want names as clients send them in Host, "+
				`such as games.example or games.example:8443, or "*" for any`, name)
		}
	}
	cross := http.NewCrossOriginProtection()
	o.AllowedOrigins = slices.Clone(o.AllowedOrigins)
	for k, origin := range o.AllowedOrigins {
		o.AllowedOrigins[k] = canonicalOrigin(origin)
		if err := cross.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("--allowed-origins has %q: %w; want origins as browsers send them, "+
				"such as https://games.example", origin, err)
		}
	}
	return nil
}

// canonicalOrigin returns an origin as browsers send it: in small letters, and without the port
// that its scheme has anyway.
func canonicalOrigin(origin string) string {
	origin = strings.ToLower(origin)
	for scheme, port := range map[string]string{"http://": ":80", "https://": ":443"} {
		if strings.HasPrefix(origin, scheme) {
			origin = strings.TrimSuffix(origin, port)
		}
	}
	return origin
}

// tooMany is a problem that a client may have solved by waiting a second.
func tooMany(status int, code, format string, args ...any) *problem {
	p := refused(status, code, format, args...)
	p.retry = time.Second
	return p
}
