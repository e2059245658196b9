// Package imports holds the packages of this module to two tables: what each of them may import,
// and what is linked into a program that embeds the library.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// kind says what a package is for. A package imports packages of its own kind and of the kinds
// before it, never one of a later kind. The files of tests are free in this.
type kind int

const (
	foundation  kind = iota // what the library is built on
	library                 // what an application imports: host, metrics, workerproc
	shared                  // what applications and tests have in common
	application             // the command line, what belongs to it, the programs that the Makefile runs, examples
)

// row is what a package may import beside the standard library. Each list is separated by spaces.
type row struct {
	kind    kind
	own     string // packages of this module
	modules string // other modules; the package may import any package of them
}

// table has every package of this module. A new package gets a row; a new import gets a place in
// its package's row. A row allows nothing that its package does not import.
var table = map[string]row{
	"browser":          {foundation, "", ""}, // files only
	"internal/calm":    {foundation, "", "golang.org/x/time"},
	"internal/clock":   {foundation, "internal/fault", ""},
	"internal/cluster": {foundation, "", ""},
	"internal/entropy": {foundation, "", ""},
	"internal/driver": {foundation, "internal/clock internal/engine internal/entropy internal/events internal/fast " +
		"internal/fault internal/inproc internal/marker internal/measure internal/migration internal/payload internal/placement " +
		"internal/pool internal/queue internal/scheduler ipc journal wasm",
		"github.com/vmihailenco/msgpack/v5 go.opentelemetry.io/otel go.opentelemetry.io/otel/trace"},
	"internal/engine": {foundation, "internal/executor internal/fault internal/fifo ipc journal wasm",
		"github.com/cespare/xxhash/v2"},
	"internal/events":    {foundation, "internal/fifo", ""},
	"internal/executor":  {foundation, "ipc journal wasm", "github.com/cespare/xxhash/v2"},
	"internal/fast":      {foundation, "", ""},
	"internal/fault":     {foundation, "wasm", ""},
	"internal/fifo":      {foundation, "", ""},
	"internal/histogram": {foundation, "", ""},
	"internal/inproc":    {foundation, "internal/executor internal/fault ipc wasm", ""},
	"internal/marker":    {foundation, "journal", "github.com/vmihailenco/msgpack/v5"},
	"internal/measure":   {foundation, "internal/fault internal/histogram", "go.opentelemetry.io/otel/trace"},
	"internal/migration": {foundation, "internal/fault journal wasm", "github.com/cespare/xxhash/v2"},
	"internal/msgjson":   {foundation, "internal/printable", "github.com/vmihailenco/msgpack/v5"},
	"internal/nearest":   {foundation, "", ""},
	"internal/pack":      {foundation, "", ""},
	"internal/payload":   {foundation, "internal/fault wasm", "github.com/vmihailenco/msgpack/v5"},
	"internal/peers":     {foundation, "", "github.com/prometheus/client_golang"},
	"internal/placement": {foundation, "", ""},
	"internal/pool": {foundation,
		"internal/fast internal/fifo internal/histogram internal/placement internal/process " +
			"internal/tap ipc", "github.com/shirou/gopsutil/v4 golang.org/x/sys"},
	"internal/printable": {foundation, "", ""},
	"internal/process": {foundation, "", "github.com/hashicorp/go-hclog github.com/hashicorp/go-plugin " +
		"github.com/landlock-lsm/go-landlock golang.org/x/net golang.org/x/sys"},
	"internal/queue": {foundation, "internal/clock internal/fault",
		"github.com/dustin/go-humanize golang.org/x/sync"},
	"internal/sabotage":  {foundation, "", ""},
	"internal/seam":      {foundation, "internal/driver internal/events internal/payload journal", ""},
	"internal/scheduler": {foundation, "internal/clock internal/fault internal/fifo internal/placement internal/pool", ""},
	"internal/tap":       {foundation, "ipc", ""},
	"internal/trace":     {foundation, "internal/msgjson internal/printable", ""},
	"internal/version":   {foundation, "", ""},
	"journal":            {foundation, "internal/pack", ""},
	"ipc":                {foundation, "internal/pack journal", "github.com/vmihailenco/msgpack/v5 golang.org/x/sys"},
	"wasm": {foundation, "", "github.com/cespare/xxhash/v2 github.com/tetratelabs/wazero github.com/vmihailenco/msgpack/v5 " +
		"golang.org/x/sys"},

	"host": {library, "internal/calm internal/clock internal/driver internal/engine internal/events internal/fast " +
		"internal/fault internal/histogram internal/inproc internal/marker internal/payload internal/placement " +
		"internal/pool internal/process internal/seam internal/tap ipc journal wasm",
		"github.com/cespare/xxhash/v2 github.com/vmihailenco/msgpack/v5 go.opentelemetry.io/otel/trace"},
	"cluster": {library, "host internal/calls internal/driver internal/events internal/fault internal/node " +
		"internal/payload internal/peers internal/seam internal/serve journal wasm",
		"hypertoken/journal/jetstream github.com/prometheus/client_golang"},
	"internal/calls": {library, "host internal/driver internal/payload internal/seam journal",
		"github.com/vmihailenco/msgpack/v5"},
	"internal/jsonl": {library,
		"host internal/marker internal/msgjson internal/nearest internal/printable journal",
		"github.com/cespare/xxhash/v2 github.com/dustin/go-humanize github.com/vmihailenco/msgpack/v5"},
	"internal/journals": {library,
		"host internal/engine internal/marker internal/migration internal/msgjson internal/printable journal wasm",
		"github.com/cespare/xxhash/v2"},
	"internal/node": {library, "host internal/journals internal/peers internal/serve internal/version journal wasm",
		"hypertoken/journal/jetstream github.com/prometheus/client_golang"},
	"internal/serve": {library, "browser host internal/calls internal/calm internal/cluster internal/driver internal/events " +
		"internal/fault internal/journals internal/jsonl internal/payload internal/peers internal/printable internal/seam journal " +
		"metrics wasm",
		"github.com/coder/websocket github.com/dustin/go-humanize github.com/prometheus/client_golang golang.org/x/sys " +
			"golang.org/x/time"},
	"metrics": {library, "host internal/histogram internal/version", "github.com/prometheus/client_golang " +
		"github.com/prometheus/client_model github.com/shirou/gopsutil/v4 google.golang.org/protobuf"},
	"workerproc": {library, "internal/executor internal/process internal/version ipc wasm",
		"github.com/cespare/xxhash/v2"},

	"core-rs":                 {shared, "", ""}, // files only
	"deploy":                  {shared, "", ""}, // tests only, and so are docs, integration and this package
	"docs":                    {shared, "", ""},
	"integration":             {shared, "", ""},
	"journal/journaltest":     {shared, "journal", ""},
	"internal/cluster/simlog": {shared, "internal/cluster", ""},
	"internal/cores":          {shared, "", ""},
	"internal/imports":        {shared, "", ""},
	"internal/leaks":          {shared, "host", "go.uber.org/goleak"},
	"internal/replay":         {shared, "host internal/trace", ""},
	"internal/storeload":      {shared, "host journal", ""},
	"internal/require":        {shared, "", ""},

	"browser/test/agree": {application, "host journal wasm workerproc", ""},
	"cmd/hypertoken": {application, "cmd/hypertoken/internal/bench cmd/hypertoken/internal/changes cmd/hypertoken/internal/clusterdev " +
		"cmd/hypertoken/internal/coredev " +
		"cmd/hypertoken/internal/describe cmd/hypertoken/internal/licenses " +
		"cmd/hypertoken/internal/top cmd/hypertoken/internal/torture cmd/hypertoken/internal/upgrade host " +
		"internal/fast internal/journals internal/jsonl internal/marker internal/msgjson internal/node internal/peers internal/printable " +
		"internal/replay internal/serve internal/trace internal/version journal wasm workerproc",
		"hypertoken/journal/disk hypertoken/journal/jetstream github.com/dustin/go-humanize github.com/nats-io/nats.go " +
			"github.com/spf13/cobra github.com/spf13/pflag golang.org/x/term"},
	"cmd/hypertoken/internal/bench": {application, "cmd/hypertoken/internal/clusterdev host internal/printable internal/storeload " +
		"internal/version journal wasm",
		"hypertoken/journal/disk hypertoken/journal/jetstream github.com/dustin/go-humanize github.com/hashicorp/go-hclog " +
			"github.com/hashicorp/go-plugin github.com/nats-io/nats.go github.com/shirou/gopsutil/v4 github.com/vmihailenco/msgpack/v5 golang.org/x/sys google.golang.org/grpc " +
			"google.golang.org/protobuf"},
	"cmd/hypertoken/internal/bench/report": {application, "cmd/hypertoken/internal/bench",
		"github.com/dustin/go-humanize gonum.org/v1/plot"},
	"cmd/hypertoken/internal/clusterdev": {application, "", "github.com/nats-io/nats-server/v2"},
	"cmd/hypertoken/internal/coredev": {application, "core-rs internal/msgjson wasm",
		"github.com/dustin/go-humanize github.com/vmihailenco/msgpack/v5"},
	"cmd/hypertoken/internal/describe":         {application, "host internal/printable", ""},
	"cmd/hypertoken/internal/describe/builtin": {application, "", "github.com/vmihailenco/msgpack/v5"},
	"cmd/hypertoken/internal/describe/write":   {application, "cmd/hypertoken/internal/describe", ""},
	"cmd/hypertoken/internal/changes": {application, "internal/msgjson internal/printable",
		"github.com/vmihailenco/msgpack/v5"},
	"cmd/hypertoken/internal/licenses":          {application, "", ""},
	"cmd/hypertoken/internal/licenses/generate": {application, "", ""},
	"cmd/hypertoken/internal/top": {application, "internal/printable",
		"charm.land/bubbletea/v2 charm.land/lipgloss/v2 " +
			"github.com/prometheus/client_model github.com/prometheus/common"},
	"cmd/hypertoken/internal/top/toptest": {application, "", ""},
	"cmd/hypertoken/internal/torture": {application, "cmd/hypertoken/internal/clusterdev host internal/fast internal/fault " +
		"internal/msgjson internal/printable internal/tap ipc journal",
		"hypertoken/journal/disk github.com/anishathalye/porcupine github.com/cespare/xxhash/v2 github.com/coder/websocket " +
			"github.com/shirou/gopsutil/v4 github.com/vmihailenco/msgpack/v5"},
	"cmd/hypertoken/internal/upgrade": {application, "internal/journals internal/migration journal wasm",
		"github.com/cespare/xxhash/v2"},
	"examples/client":         {application, "", "github.com/coder/websocket"},
	"examples/clusternode":    {application, "cluster host workerproc", "hypertoken/journal/jetstream"},
	"examples/dealer":         {application, "host workerproc", ""},
	"internal/corebench":      {application, "", ""},
	"internal/rename":         {application, "", ""},
	"internal/sabotage/catch": {application, "internal/sabotage", ""},
}

// embedded has the modules of a program that embeds the library, on whatever system. Porcupine,
// gonum and the like are not among them: only tests and measurements need those. No package of the
// library but metrics imports grpc or protobuf itself; both come with go-plugin.
//
// The program links modules. The tests of the packages that the program is linked from link those
// in tests as well. All are in the program's go.sum, for `go mod tidy` takes both in. A test that
// needs one more module belongs into a package that the library does not import, such as
// integration.
var embedded = []struct{ packages, modules, tests string }{
	{"host ipc journal wasm workerproc", hostModules, "go.uber.org/goleak"},
	{"host metrics workerproc", hostModules + " " + metricsModules, "go.uber.org/goleak github.com/kylelemons/godebug"},
}

const hostModules = "github.com/cespare/xxhash/v2 github.com/dustin/go-humanize github.com/ebitengine/purego " +
	"github.com/fatih/color github.com/go-ole/go-ole github.com/golang/protobuf " +
	"github.com/hashicorp/go-hclog github.com/hashicorp/go-plugin github.com/hashicorp/yamux " +
	"github.com/landlock-lsm/go-landlock github.com/mattn/go-colorable github.com/mattn/go-isatty " +
	"github.com/oklog/run github.com/shirou/gopsutil/v4 github.com/tetratelabs/wazero " +
	"github.com/tklauser/go-sysconf github.com/tklauser/numcpus github.com/vmihailenco/msgpack/v5 " +
	"github.com/vmihailenco/tagparser/v2 github.com/yusufpapurcu/wmi go.opentelemetry.io/otel " +
	"go.opentelemetry.io/otel/trace golang.org/x/net golang.org/x/sync golang.org/x/sys " +
	"golang.org/x/text golang.org/x/time google.golang.org/genproto/googleapis/rpc " +
	"google.golang.org/grpc google.golang.org/protobuf kernel.org/pub/linux/libs/security/libcap/psx"

const metricsModules = "github.com/beorn7/perks github.com/munnerz/goautoneg github.com/pandatix/go-abnf " +
	"github.com/prometheus/client_golang github.com/prometheus/client_model " +
	"github.com/prometheus/common github.com/prometheus/procfs"

// systems are those for which the imports are looked at; some files are for one of them only.
var systems = []string{"linux", "darwin", "windows"}

// listed is a package as go list prints it.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Module     *struct {
		Path    string
		Main    bool
		Replace *struct{ Path string }
	}
}

// isOfTheRoot reports whether a package is one of the module in the root of this repository, as a
// module of its own sees it.
func (p *listed) isOfTheRoot() bool {
	return p.Module.Replace != nil && p.Module.Replace.Path == "../.."
}

// folder returns the package's folder in its module.
func (p *listed) folder() string { return strings.TrimPrefix(p.ImportPath, p.Module.Path+"/") }

// list returns the packages that the arguments name on a system, and everything that they import, by
// import path.
func list(t *testing.T, system string, args ...string) map[string]*listed {
	t.Helper()
	return listIn(t, "../..", system, args...)
}

// listIn does the same in the module of a folder.
func listIn(t *testing.T, folder, system string, args ...string) map[string]*listed {
	t.Helper()
	const fields = "-json=ImportPath,Standard,Imports,Module"
	c := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps", fields}, args...)...)
	c.Dir, c.Env = folder, append(os.Environ(), "GOOS="+system, "GOARCH=amd64", "CGO_ENABLED=0")
	var failed bytes.Buffer
	c.Stderr = &failed
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list %v for %s: %v: %s", args, system, err, &failed)
	}
	all := map[string]*listed{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = &p
	}
}

// name returns a package's folder, and whether the package is one of this module.
func (p *listed) name() (string, bool) {
	if p.Module == nil || !p.Module.Main {
		return "", false
	}
	return p.folder(), true
}

// set is a set of words.
type set map[string]bool

func (s set) sorted() []string { return slices.Sorted(maps.Keys(s)) }

// Every package imports what its row in the table says, and nothing else. No row lets a package
// import one of a later kind.
func TestEveryPackageImportsWhatTheTableAllows(t *testing.T) {
	own, modules := map[string]set{}, map[string]set{}
	for _, system := range systems {
		all := list(t, system, "./...")
		for _, p := range all {
			name, isOwn := p.name()
			if !isOwn {
				continue
			}
			if own[name] == nil {
				own[name], modules[name] = set{}, set{}
			}
			for _, path := range p.Imports {
				imported := all[path]
				if imported == nil || imported.Standard { // nil is unsafe's or C's
					continue
				}
				if folder, isOwn := imported.name(); isOwn {
					own[name][folder] = true
				} else {
					modules[name][imported.Module.Path] = true
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		allowed, known := table[name]
		if !known {
			t.Errorf("the table has no row for %s: {kind, %q, %q}", name, strings.Join(own[name].sorted(), " "),
				strings.Join(modules[name].sorted(), " "))
			continue
		}
		compare(t, name, "import", allowed.own, own[name])
		compare(t, name, "import", allowed.modules, modules[name])
		for _, imported := range strings.Fields(allowed.own) {
			if to, known := table[imported]; known && to.kind > allowed.kind {
				t.Errorf("the table lets %s import %s, which is of a later kind", name, imported)
			}
		}
	}
	for name := range table {
		if own[name] == nil {
			t.Errorf("the table has a row for %s, and there is no such package", name)
		}
	}
}

// compare holds the paths that a package imports, or a program links, against those that are
// allowed.
func compare(t *testing.T, name, verb, allowed string, have set) {
	t.Helper()
	want := set{}
	for _, path := range strings.Fields(allowed) {
		want[path] = true
		if !have[path] {
			t.Errorf("the table lets %s %s %s, which is not the case: take it out of the table", name, verb, path)
		}
	}
	for _, path := range have.sorted() {
		if !want[path] {
			t.Errorf("the table does not let %s %s %s", name, verb, path)
		}
	}
}

// A program that embeds the library links the modules that are named here, and so do the tests of
// what it links.
func TestWhatAProgramThatEmbedsTheLibraryLinks(t *testing.T) {
	for _, e := range embedded {
		linked := set{}
		for _, system := range systems {
			for _, p := range list(t, system, arguments(e.packages)...) {
				if _, isOwn := p.name(); !isOwn && !p.Standard {
					linked[p.Module.Path] = true
				}
			}
		}
		compare(t, "a program with "+e.packages, "link", e.modules, linked)

		const system = "linux" // the tests for other systems need nothing else
		args := []string{"-test"}
		for _, p := range list(t, system, arguments(e.packages)...) {
			if folder, isOwn := p.name(); isOwn {
				args = append(args, "./"+folder)
			}
		}
		tested := set{}
		for _, p := range list(t, system, args...) {
			if _, isOwn := p.name(); !isOwn && p.Module != nil && !linked[p.Module.Path] {
				tested[p.Module.Path] = true
			}
		}
		compare(t, "the tests of a program with "+e.packages, "link", e.tests, tested)
	}
}

// arguments returns packages as the go command takes them at the root of the module.
func arguments(packages string) (list []string) {
	for _, folder := range strings.Fields(packages) {
		list = append(list, "./"+folder)
	}
	return list
}
