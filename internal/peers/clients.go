package peers

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The addresses at which clients reach nodes. A page that one node has served goes on at another one
// when the first one dies. So each node takes requests from pages of the others.

// hostForm is that of a host in an origin. Nothing in it ends a part of a header.
var hostForm = regexp.MustCompile(`^[a-zA-Z0-9.:\[\]-]+$`)

// OriginOf returns the origin of a URL at which clients reach a node, as browsers send it. It fails for
// what is no such URL.
func OriginOf(client string) (string, error) {
	u, err := url.Parse(client)
	switch {
	case err != nil:
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil, u.RawQuery != "", u.Fragment != "",
		!hostForm.MatchString(u.Host):
		err = fmt.Errorf("%q is no address of a server", client)
	}
	if err != nil {
		return "", fmt.Errorf("%w; want a URL such as https://a.example or http://10.0.0.5:9464", err)
	}
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443"}[u.Scheme])
	return u.Scheme + "://" + host, nil
}

// maxOrigins is the most origins of members that Origins returns: they have to fit into a header.
const maxOrigins = 32

// Origins returns the origins of the members' pages: of those that live, and of those that have died a
// while ago, because their pages go on at the others.
func (p *Peers) Origins() (list []string) {
	if p == nil || p.o.Clients == nil {
		return nil
	}
	for _, client := range p.o.Clients() {
		origin, err := OriginOf(client)
		if err == nil && len(list) < maxOrigins && !slices.Contains(list, origin) {
			list = append(list, origin)
		}
	}
	return list
}
