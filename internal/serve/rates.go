package serve

import (
	"container/list"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// maxAddresses is the most remote addresses that are remembered. An address that was forgotten
// gets a new limiter.
const maxAddresses = 4096

// rates has a limiter for each of the remote addresses that were used last.
type rates struct {
	limit int
	none  *rate.Limiter // without a bound

	mu      sync.Mutex // guards the fields below
	order   *list.List // of *address; the one that was used last is at the front
	entries map[netip.Prefix]*list.Element
}

type address struct {
	prefix  netip.Prefix
	limiter *rate.Limiter
}

func newRates(limit int) rates {
	return rates{limit: limit, none: rate.NewLimiter(rate.Inf, 0), order: list.New(),
		entries: map[netip.Prefix]*list.Element{}}
}

// addressOf returns the part of a remote address that identifies a client: a whole IPv4 address,
// or the first 64 bits of an IPv6 address. A client that has one IPv6 address usually has all
// addresses of its network.
func addressOf(remote string) netip.Prefix {
	at, _ := netip.ParseAddrPort(remote) // all texts that are no address share the zero address
	ip, bits := at.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	prefix, _ := ip.Prefix(bits)
	return prefix
}

// of returns the limiter of a request's remote address.
func (r *rates) of(remote string) *rate.Limiter {
	if r.limit == 0 {
		return r.none
	}
	prefix := addressOf(remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[prefix]; e != nil {
		r.order.MoveToFront(e)
		return e.Value.(*address).limiter
	}
	if r.order.Len() == maxAddresses {
		last := r.order.Back()
		delete(r.entries, last.Value.(*address).prefix)
		r.order.Remove(last)
	}
	a := &address{prefix, rate.NewLimiter(rate.Limit(r.limit), r.limit)}
	r.entries[prefix] = r.order.PushFront(a)
	return a.limiter
}
