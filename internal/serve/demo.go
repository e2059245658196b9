package serve

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"hypertoken/browser"
	"hypertoken/wasm"
)

// The demo, the npm package that it uses, and the same core that workers run. All of it is in this
// program.

// asset is a file that pages load.
type asset struct {
	content, compressed []byte // compressed is nil if it would not be smaller
	kind, hash          string
	isPage              bool
}

var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".wasm": "application/wasm",
}

// demoHeaders are sent with the demo. With them and with the policy, its pages run only code from this
// server, and are isolated from other pages.
var demoHeaders = map[string]string{
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Embedder-Policy": "require-corp",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
}

// policy returns the Content-Security-Policy of the demo. Its pages may also play at the other nodes of
// the cluster.
func (s *Server) policy() string {
	connect := "'self'"
	for _, origin := range s.o.Peers.Origins() {
		connect += " " + origin + " ws" + strings.TrimPrefix(origin, "http")
	}
	return "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; " +
		"img-src 'self' data:; connect-src " + connect + "; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
}

func newAsset(name string, content []byte) (*asset, error) {
	kind := kinds[path.Ext(name)]
	if kind == "" {
		return nil, fmt.Errorf("serve: %s has an extension without a content type", name)
	}
	a := &asset{content: content, kind: kind, hash: fmt.Sprintf("%x", sha256.Sum256(content))[:32],
		isPage: path.Ext(name) == ".html"}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if b.Len() < len(content) {
		a.compressed = b.Bytes()
	}
	return a, nil
}

// demo returns the files that pages load, by their paths. hypertoken.js finds its worker and the core
// beside itself. They are also at /workers/ and /wasm/, where pages of the original look for them.
func (s *Server) demo() (map[string]*asset, error) {
	assets := map[string]*asset{}
	add := func(at, name string, content []byte) (err error) {
		assets[at], err = newAsset(name, content)
		return err
	}
	if err := add("/hypertoken/core.wasm", "core.wasm", wasm.Builtin()); err != nil {
		return nil, err
	}
	for _, name := range []string{"hypertoken.js", "hypertoken.worker.js", "client.js"} {
		content, err := browser.Dist.ReadFile("dist/" + name)
		if err == nil {
			err = add("/hypertoken/"+name, name, content)
		}
		if err != nil {
			return nil, err
		}
	}
	assets["/wasm/core.wasm"] = assets["/hypertoken/core.wasm"]
	assets["/workers/hypertoken.worker.js"] = assets["/hypertoken/hypertoken.worker.js"]
	err := fs.WalkDir(browser.Demo, "demo", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		at := strings.TrimPrefix(name, "demo")
		if at == "/index.html" {
			at = "/{$}"
		}
		content, err := browser.Demo.ReadFile(name)
		if err != nil {
			return err
		}
		if at == "/{$}" {
			content = s.tellPage(content)
		}
		return add(at, name, content)
	})
	return assets, err
}

// tellPage returns the page with what it has to know of this server: whether it is a node of a cluster,
// and whether it wants a token.
func (s *Server) tellPage(page []byte) []byte {
	body := "<body"
	if s.o.Peers != nil {
		body += " data-cluster"
	}
	if s.o.Token != "" {
		body += " data-token"
	}
	return bytes.Replace(page, []byte("<body"), []byte(body), 1)
}

// serveAsset returns the handler of a file. It answers with the file, or with the status that the
// client's copy is current. A client asks each time, by the hash of its copy.
func (s *Server) serveAsset(a *asset) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem { return a.serve(w, r, s.policy()) }
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request, policy string) *problem {
	h := w.Header()
	for key, value := range demoHeaders {
		h.Set(key, value)
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache")
	h.Add("Vary", "Accept-Encoding")
	content, tag := a.content, a.hash
	if a.compressed != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		content, tag = a.compressed, a.hash+"-gzip"
	}
	if a.isPage {
		// Browsers keep the policy of the copy that they have. With another policy it is another page.
		tag += fmt.Sprintf("-%x", sha256.Sum256([]byte(policy)))[:9]
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	return nil
}

// acceptsGzip reads an Accept-Encoding: gzip is named, and not with a weight of 0.
func acceptsGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		coding, weight, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		weight = strings.ReplaceAll(strings.ToLower(weight), " ", "")
		return strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != "" || weight == ""
	}
	return false
}
