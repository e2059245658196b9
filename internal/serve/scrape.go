package serve

import (
	"bytes"
	"maps"
	"net/http"
)

// page is an answer in memory.
type page struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) Write(b []byte) (int, error) { return p.body.Write(b) }
func (p *page) WriteHeader(status int)      { p.status = status }

// scrape returns a handler that answers with the whole page of another one. Only making the page
// counts as a scrape in flight, so that clients that read slowly take no scrape from others.
func (s *Server) scrape(h http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		p := &page{header: http.Header{}, status: http.StatusOK}
		h.ServeHTTP(p, r)
		maps.Copy(w.Header(), p.header)
		w.WriteHeader(p.status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(p.body.Bytes()) // if the client is gone, it needs no answer
		}
		return nil
	}
}
