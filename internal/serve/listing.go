package serve

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"hypertoken/host"
)

// This file lists engines for clients: those that are open, and those that are only stored.

// engineInfo is an engine as clients see it. The members behind Place come from the store.
type engineInfo struct {
	Name string `json:"name"`
	// Place is where it runs: worker, in_process, placing, or out.
	Place    string    `json:"place"`
	Sequence uint64    `json:"sequence"`
	Core     string    `json:"core,omitempty"`
	Bytes    uint64    `json:"bytes"`
	Created  time.Time `json:"created,omitzero"`
	Updated  time.Time `json:"updated,omitzero"`
}

// placeLocked returns where the engine is. The lock mu is held.
func (e *entry) placeLocked() string {
	if e.engine == nil {
		return host.Placing.String()
	}
	return e.engine.Place().String()
}

// infoLocked returns what clients are told of a stored engine. The lock mu is held.
func (g *engines) infoLocked(s host.StoredEngine) engineInfo {
	info := engineInfo{Name: s.Name, Place: host.PlaceOut.String(), Sequence: s.Sequence, Core: s.Core, Bytes: s.Bytes,
		Created: s.Created, Updated: s.Updated}
	if e := g.list[s.Name]; e != nil {
		info.Place = e.placeLocked()
	}
	return info
}

// get returns one engine.
func (g *engines) get(ctx context.Context, name string) (engineInfo, error) {
	list, _, err := g.page(ctx, name, "", 1)
	if err != nil {
		return engineInfo{}, err
	}
	// The name itself sorts before all others that begin with it.
	if len(list) == 0 || list[0].Name != name {
		return engineInfo{}, unknown(name)
	}
	return list[0], nil
}

// page returns the engines whose names start with prefix and sort behind after, limit of them at
// most, and where the next page begins; "" if there is none.
func (g *engines) page(
	ctx context.Context, prefix, after string, limit int,
) (page []engineInfo, next string, err error) {
	if strings.HasPrefix(prefix, "\x00") { // names of the host's own, of imports
		return []engineInfo{}, "", nil
	}
	from := g.acquire()
	stored, err := from.Stored(ctx, prefix, after, limit)
	from.users.Done()
	if err != nil {
		return nil, "", err
	}
	if len(stored) == limit {
		next = stored[limit-1].Name
	}
	page = make([]engineInfo, 0, len(stored))
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range stored {
		if e := g.list[s.Name]; e == nil || e.leaving != isDeleting {
			page = append(page, g.infoLocked(s))
		}
	}
	return page, next, nil
}

// openEngine is an engine that is open.
type openEngine struct {
	Name  string `json:"name"`
	Place string `json:"place"`
}

// all returns the engines that are open, by name.
func (g *engines) all() []openEngine {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]openEngine, 0, len(g.list))
	for name, e := range g.list {
		if e.leaving != isDeleting {
			all = append(all, openEngine{name, e.placeLocked()})
		}
	}
	slices.SortFunc(all, func(a, b openEngine) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// maxPage is how many engines a page has at most.
const maxPage = 1000

// pageOf reads the parameters of a page.
func pageOf(query url.Values) (prefix, after string, limit int, p *problem) {
	limit = maxPage
	if query.Has("limit") {
		text := query.Get("limit")
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return "", "", 0, refused(http.StatusBadRequest, host.ErrBadInput.Code,
				"limit is %q, want a number from 1 to %d", clip(text), maxPage)
		}
		limit = n
	}
	return query.Get("prefix"), query.Get("after"), limit, nil
}

func (s *Server) listEngines(w http.ResponseWriter, r *http.Request) *problem {
	if p := claim(r); p != nil {
		return p
	}
	prefix, after, limit, p := pageOf(r.URL.Query())
	if p != nil {
		return p
	}
	page, next, err := s.engines.page(r.Context(), prefix, after, limit)
	if err != nil {
		return problemOf(err)
	}
	answer := map[string]any{"engines": page}
	if next != "" {
		answer["next"] = next
	}
	return writeJSON(w, answer)
}
