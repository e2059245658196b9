// Package browser holds the files that `hypertoken serve --demo` serves: the built npm package, and
// the demo. README.md describes the npm package.
package browser

import "embed"

// Dist has the package for pages without a bundler, as build.js makes it: dist/hypertoken.js and
// dist/hypertoken.worker.js, and the client of a server, dist/client.js.
//
//go:embed dist/hypertoken.js dist/hypertoken.worker.js dist/client.js
var Dist embed.FS

// Demo has the demo's page and the files that it loads, in the folder demo.
//
//go:embed demo
var Demo embed.FS
