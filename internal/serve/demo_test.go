package serve

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"testing"

	"hypertoken/host"
	"hypertoken/wasm"
)

// ask asks with an Accept-Encoding of its own: the client would ask for gzip and hide it.
func ask(t *testing.T, url string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for k := 0; k < len(headers); k += 2 {
		r.Header.Set(headers[k], headers[k+1])
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Body.Close() }()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w, b
}

func TestDemo(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Demo = true })
	defer http.DefaultClient.CloseIdleConnections()
	for path, kind := range map[string]string{
		"/":                                "text/html; charset=utf-8",
		"/main.js":                         "text/javascript; charset=utf-8",
		"/hypertoken/hypertoken.js":        "text/javascript; charset=utf-8",
		"/hypertoken/hypertoken.worker.js": "text/javascript; charset=utf-8",
		"/hypertoken/client.js":            "text/javascript; charset=utf-8",
		"/hypertoken/core.wasm":            "application/wasm",
		"/workers/hypertoken.worker.js":    "text/javascript; charset=utf-8",
		"/wasm/core.wasm":                  "application/wasm",
	} {
		plain, content := ask(t, s.url+path)
		h := plain.Header
		if plain.StatusCode != 200 || h.Get("Content-Type") != kind ||
			h.Get("Cross-Origin-Opener-Policy") != "same-origin" ||
			h.Get("Cross-Origin-Embedder-Policy") != "require-corp" || h.Get("Content-Security-Policy") == "" ||
			h.Get("Cache-Control") != "no-cache" ||
			h.Get("Content-Encoding") != "" || len(content) == 0 {
			t.Errorf("%s: %d %v, %d bytes", path, plain.StatusCode, h, len(content))
		}
		again, none := ask(t, s.url+path, "If-None-Match", h.Get("ETag"))
		if again.StatusCode != http.StatusNotModified || len(none) != 0 {
			t.Errorf("%s again: %d, %d bytes", path, again.StatusCode, len(none))
		}
		small, compressed := ask(t, s.url+path, "Accept-Encoding", "br, gzip;q=0.5")
		if small.Header.Get("Content-Encoding") == "gzip" {
			if small.Header.Get("ETag") == h.Get("ETag") {
				t.Errorf("%s: two contents have the same tag", path)
			}
			z, err := gzip.NewReader(bytes.NewReader(compressed))
			if err != nil {
				t.Fatal(err)
			}
			if all, err := io.ReadAll(z); err != nil || !bytes.Equal(all, content) {
				t.Errorf("%s: compressed it is something else, %v", path, err)
			}
		} else if kind != "text/html; charset=utf-8" {
			t.Errorf("%s is not compressed", path)
		}
		if kind == "application/wasm" && !bytes.Equal(content, wasm.Builtin()) {
			t.Error("the core is another one than that of the workers")
		}
	}
	for _, path := range []string{"/hypertoken/", "/demo/", "/dist/hypertoken.js", "/index.html/x", "/embed.go"} {
		if w, _ := ask(t, s.url+path); w.StatusCode != 404 {
			t.Errorf("%s: %d", path, w.StatusCode)
		}
	}
}

// The demo needs no token, and the engines still do.
func TestDemoBesideAToken(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, func(o *Options) { o.Demo, o.Token = true, token })
	defer http.DefaultClient.CloseIdleConnections()
	if _, page := ask(t, s.url+"/"); !bytes.Contains(page, []byte("<body data-token>")) {
		t.Error("the page does not say that the server wants a token")
	}
	for path, status := range map[string]int{"/": 200, "/wasm/core.wasm": 200, "/v1/engines": 401, "/metrics": 401} {
		if w, _ := ask(t, s.url+path); w.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, w.StatusCode, status)
		}
	}
}

func TestNoDemo(t *testing.T) {
	s := start(t, host.Options{InProcess: true}, nil)
	defer http.DefaultClient.CloseIdleConnections()
	for _, path := range []string{"/", "/wasm/core.wasm"} {
		if w, _ := ask(t, s.url+path); w.StatusCode != 404 {
			t.Errorf("%s: %d", path, w.StatusCode)
		}
	}
}

func TestAcceptsGzip(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br, gzip": true, "gzip;q=1": true, "gzip; q=0.001": true,
		"gzip;q=0": false, "gzip;q=0.0": false,
		"gzip;q=0.000, br": false, "identity": false, "xgzip": false, "*": false,
	} {
		if got := acceptsGzip(accept); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}
