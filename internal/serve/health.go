package serve

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"hypertoken/host"
)

// The answers for probes and operators.

func (s *Server) health(w http.ResponseWriter, _ *http.Request) *problem {
	return text(w, http.StatusOK, "ok")
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) *problem {
	if why := s.unready(s.engines.present().Stats()); why != "" {
		return text(w, http.StatusServiceUnavailable, why)
	}
	return text(w, http.StatusOK, "ready")
}

func text(w http.ResponseWriter, status int, line string) *problem {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n")
	return nil
}

// unready returns the reason why clients should use another server, or "".
func (s *Server) unready(stats host.Stats) string {
	if s.draining.Err() != nil || s.isLeaving.Load() {
		return "shutting down"
	}
	if err := s.engines.present().StoreHealth(); err != nil {
		return "nothing can be stored: " + err.Error()
	}
	if s.o.Peers != nil {
		if why := s.o.Peers.Ready(); why != "" {
			return why
		}
	}
	if s.o.InProcess {
		return ""
	}
	states := map[host.WorkerState]int{}
	for _, w := range stats.Workers {
		states[w.State]++
	}
	here := ""
	if n := stats.Engines[host.PlaceInProcess]; n > 0 {
		here = fmt.Sprintf("; fallback active: %d engines run in the server's own process", n)
	}
	switch failing := states[host.WorkerBackoff] + states[host.WorkerGivenUp] + states[host.WorkerProbing]; {
	case states[host.WorkerReady] > 0 && here == "":
		return ""
	case states[host.WorkerReady] > 0:
		return "engines go back to the workers" + here
	case failing > 0:
		return fmt.Sprintf("restart storm: no worker is ready, %d of %d are in backoff, given_up or probing%s",
			failing, len(stats.Workers), here)
	}
	return fmt.Sprintf("no worker is ready: %d of %d are starting%s", states[host.WorkerStarting], len(stats.Workers),
		here)
}

// maxListed bounds the engines of /v1/status.
const maxListed = 256

// recentError is a [host.RecentError].
type recentError struct {
	At      time.Time `json:"at"`
	Engine  string    `json:"engine"`
	Action  string    `json:"action"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
}

// overview is the answer of /v1/status, for `hypertoken top`.
type overview struct {
	// Engines are the first maxListed open engines, sorted by name. EngineCount is the number of
	// open engines.
	Engines     []openEngine `json:"engines"`
	EngineCount int          `json:"engine_count"`
	// Errors are the last errors that callers got, the newest first.
	Errors []recentError `json:"errors"`
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) *problem {
	engines := s.engines.all()
	o := overview{EngineCount: len(engines), Engines: engines[:min(len(engines), maxListed)], Errors: []recentError{}}
	for _, e := range s.engines.present().RecentErrors() {
		o.Errors = append(o.Errors, recentError(e))
	}
	return writeJSON(w, o)
}

//go:embed openapi.json
var openapi []byte

// document returns the description of this server. If the server has no token, the description
// does not ask for one.
func document(token bool) ([]byte, error) {
	if token {
		return openapi, nil
	}
	var d map[string]any
	if err := json.Unmarshal(openapi, &d); err != nil {
		return nil, fmt.Errorf("serve: openapi.json: %w", err)
	}
	delete(d, "security")
	components, ok := d["components"].(map[string]any)
	if !ok {
		return nil, errors.New("serve: openapi.json has no components")
	}
	delete(components, "securitySchemes")
	return json.MarshalIndent(d, "", "  ")
}

func (s *Server) describe(w http.ResponseWriter, _ *http.Request) *problem {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.document)
	return nil
}
