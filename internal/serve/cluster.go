package serve

import (
	"context"
	"net/http"
	"time"

	"hypertoken/host"
)

// overviewPatience is how long an overview of a cluster waits for the servers that the journals are on.
const overviewPatience = time.Second

// cluster answers with the cluster as this node sees it.
func (s *Server) cluster(w http.ResponseWriter, r *http.Request) *problem {
	if s.o.Peers == nil {
		return refused(http.StatusNotFound, codeNotFound, "this server is no node of a cluster: --cluster makes it one")
	}
	hasOwners := false
	if q := r.URL.Query(); q.Has("slots") {
		switch value := q.Get("slots"); value {
		case "0":
		case "1":
			hasOwners = true
		default:
			return refused(http.StatusBadRequest, host.ErrBadInput.Code, "slots is %q, want 0 or 1", clip(value))
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), overviewPatience)
	defer cancel()
	return writeJSON(w, s.o.Peers.Overview(ctx, hasOwners))
}
