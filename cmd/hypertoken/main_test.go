package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/cmd/hypertoken/internal/bench"
	"hypertoken/cmd/hypertoken/internal/clusterdev"
	"hypertoken/cmd/hypertoken/internal/top/toptest"
	"hypertoken/cmd/hypertoken/internal/torture"
	"hypertoken/host"
	"hypertoken/internal/cores"
	"hypertoken/internal/msgjson"
	"hypertoken/internal/replay"
	"hypertoken/internal/require"
	"hypertoken/internal/trace"
	"hypertoken/journal"
	"hypertoken/journal/disk"
	"hypertoken/workerproc"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) {
	workerproc.Main()
	bench.Main()
	torture.Main()
	clusterdev.Main()
	testscript.Main(m, map[string]func(){"hypertoken": main,
		topSteps: func() { topClock, topTimeout = toptest.Clock(), time.Minute; main() }})
}

// warm compiles the cores of the scripts, for workers and for this process. With the race
// detector, compiling may take longer than a worker may take to start.
func warm(t *testing.T, cache string) {
	t.Helper()
	for _, core := range [][]byte{nil, cores.Test, cores.Example} {
		h, err := host.New(t.Context(), host.Options{Workers: 1, Core: core, CacheDir: cache,
			StartTimeout: 5 * time.Minute,
			OpenTimeout:  5 * time.Minute, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Open(t.Context(), "warm", host.EngineOptions{}); err != nil {
			t.Fatal(err)
		}
		_ = h.CoreToolchain()
		if err := h.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScripts compares the output of commands with the expected one. Each file in testdata/script
// is a script.
func TestScripts(t *testing.T) {
	traces, err := filepath.Abs("../../integration/testdata/conformance")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := filepath.Abs("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	// All test programs share the user's cache, so each core is compiled once on a machine.
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(t.TempDir(), "cache")
	}
	warm(t, filepath.Join(cache, "hypertoken"))
	commands := serveCommands()
	maps.Copy(commands, scriptCommands)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", cache)
			env.Setenv("TRACES", traces)
			env.Setenv("EXAMPLES", examples)
			env.Setenv("README", readme)
			env.Setenv("TESTCORE", fmt.Sprintf("%x", sha256.Sum256(cores.Test)))
			for name, code := range map[string][]byte{"test.wasm": cores.Test, "example.wasm": cores.Example,
				"hostile.wasm": hostile(), "actionless.wasm": cores.Actionless(),
				"cut.wasm": cores.Example[:len(cores.Example)/2], "empty.wasm": nil,
				"no_abi.wasm":  new(cores.Module).Bytes(),
				"imports.wasm": cores.Whole(1).Importing("env", "now", 0, cores.ToInt).Bytes(),
				"version.wasm": cores.Whole(2).Bytes()} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), code, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: commands,
		Condition: func(name string) (bool, error) {
			if name != "deep" {
				return false, fmt.Errorf("there is no condition %q", name)
			}
			return require.IsDeep(), nil
		},
		UpdateScripts: *update,
	})
}

// testscript has a command stop: it ends a script, and the script has passed.
func TestScriptsRunToTheirEnd(t *testing.T) {
	names, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d scripts, %v", len(names), err)
	}
	stop := regexp.MustCompile(`(?m)^\s*stop\b`)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if stop.Match(b) {
			t.Errorf("%s: nothing behind its command stop would run; endserver ends a server", name)
		}
	}
}

// hostile is a core whose names, descriptions, errors and toolchain try to steer the terminal.
func hostile() []byte {
	b := slices.Clone(cores.Example)
	for plain, escaped := range map[string]string{
		"process:item": "\x1b[2Jevil:\u009bx", "Counts an item": "\x1b]0;title\a2345",
		"toolchainrustc": "toolchain\x1b[2Jx",
	} {
		if len(plain) != len(escaped) || !bytes.Contains(b, []byte(plain)) {
			panic(plain)
		}
		b = bytes.ReplaceAll(b, []byte(plain), []byte(escaped))
	}
	return b
}

// scriptCommands are what scripts do with files.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// long FILE PREFIX N SUFFIX appends PREFIX, N times x, SUFFIX and a newline to a file.
	"long": func(ts *testscript.TestScript, _ bool, args []string) {
		var n int
		_, err := fmt.Sscan(args[2], &n)
		ts.Check(err)
		appendTo(ts, args[0], args[1]+strings.Repeat("x", n)+args[3]+"\n")
	},
	// damage DIR changes a byte in the first half of the newest log of a store.
	"damage": func(ts *testscript.TestScript, _ bool, args []string) {
		logs, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "db", "*.log"))
		ts.Check(err)
		newest := slices.Max(logs) // the names are numbers of six digits
		b, err := os.ReadFile(newest)
		ts.Check(err)
		b[len(bytes.TrimRight(b, "\x00"))/4] ^= 0x55
		ts.Check(os.WriteFile(newest, b, 0o600))
	},
	// leftover DIR NAME puts into a store what an import of that name leaves whose program was killed.
	"leftover": func(ts *testscript.TestScript, _ bool, args []string) {
		s, err := disk.Open(ts.MkAbs(args[0]), disk.Options{MinFree: 1})
		ts.Check(err)
		h, err := host.New(context.Background(), host.Options{InProcess: true, Store: s})
		ts.Check(err)
		_, err = h.Import(context.Background(), args[1], journal.Base{})
		ts.Check(err)
		ts.Check(h.Shutdown(context.Background()))
		ts.Check(s.Close())
	},
	// await FILE PATTERN waits until a file that another command writes matches.
	"await": func(ts *testscript.TestScript, _ bool, args []string) {
		pattern := regexp.MustCompile(args[1])
		until := time.Now().Add(time.Minute)
		looks := time.NewTicker(10 * time.Millisecond)
		defer looks.Stop()
		for ; ; <-looks.C {
			b, _ := os.ReadFile(ts.MkAbs(args[0]))
			if pattern.Match(b) {
				return
			}
			if time.Now().After(until) {
				ts.Fatalf("%s does not match %q: %s", args[0], args[1], b)
			}
		}
	},
	// append FILE LINE appends a line to a file.
	"append": func(ts *testscript.TestScript, _ bool, args []string) { appendTo(ts, args[0], args[1]+"\n") },
	// harmless NAME... fails unless the outputs, stdout, stderr or a file, have text and no
	// control character but newlines.
	"harmless": func(ts *testscript.TestScript, _ bool, args []string) {
		for _, name := range args {
			text := ts.ReadFile(name)
			if at := strings.IndexFunc(text,
				func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); at >= 0 || text == "" {
				ts.Fatalf("%s steers the terminal at %d: %q", name, at, text)
			}
		}
	},
	// unescape FILE writes the character in the place of each <HEX>.
	"unescape": func(ts *testscript.TestScript, _ bool, args []string) {
		text := regexp.MustCompile(`<[0-9a-f]{2,4}>`).ReplaceAllStringFunc(ts.ReadFile(args[0]), func(mark string) string {
			r, err := strconv.ParseUint(mark[1:len(mark)-1], 16, 32)
			ts.Check(err)
			return string(rune(r))
		})
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	},
	// readme LINES ANSWERS writes the lines that README.md has as an example, and its answers to
	// them, without the digest.
	"readme": func(ts *testscript.TestScript, _ bool, args []string) {
		readme, err := os.ReadFile(ts.Getenv("README"))
		ts.Check(err)
		m := regexp.MustCompile(`(?s)hypertoken run <<'END'\n(.*?) *{"digest":true}\n *END\n(.*?) *{"digest":"`).FindSubmatch(readme)
		if m == nil {
			ts.Fatalf("README.md has no lines")
		}
		for i, name := range args {
			text := regexp.MustCompile(`(?m)^ +`).ReplaceAllString(string(m[i+1]), "")
			ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
		}
	},
	// windows FILE gives a file a byte order mark, Windows' ends of lines, and blank lines.
	"windows": func(ts *testscript.TestScript, _ bool, args []string) {
		text := "\ufeff\r\n" + strings.ReplaceAll(ts.ReadFile(args[0]), "\n", "\r\n\r\n \t\r\n")
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	},
	// utf16 FILE encodes a file as UTF-16.
	"utf16": func(ts *testscript.TestScript, _ bool, args []string) {
		text := []byte{0xff, 0xfe}
		for _, unit := range utf16.Encode([]rune(ts.ReadFile(args[0]))) {
			text = binary.LittleEndian.AppendUint16(text, unit)
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
	},
	// nested FILE N appends a dispatch whose payload is N arrays deep.
	"nested": func(ts *testscript.TestScript, _ bool, args []string) {
		var n int
		_, err := fmt.Sscan(args[1], &n)
		ts.Check(err)
		appendTo(ts, args[0], `{"type":"debug:log","payload":{"a":`+strings.Repeat("[", n)+strings.Repeat("]", n)+"}}\n")
	},
	// numbers FILE N writes dispatches whose payloads are N random numbers each: floats of all
	// sizes, and integers.
	"numbers": func(ts *testscript.TestScript, _ bool, args []string) {
		var n int
		_, err := fmt.Sscan(args[1], &n)
		ts.Check(err)
		random := rand.New(rand.NewPCG(15, 5))
		for _, draw := range []func() any{
			func() any { return math.Float64frombits(random.Uint64()) },
			func() any { return math.Ldexp(float64(random.Int64N(1<<53)), random.IntN(80)-10) },
			func() any { return float64(random.IntN(2000) - 1000) },
			func() any { return random.Int64N(2*msgjson.MaxInt+1) - msgjson.MaxInt },
		} {
			var all []any
			for len(all) < n {
				v := draw()
				if f, ok := v.(float64); !ok || !math.IsNaN(f) && !math.IsInf(f, 0) {
					all = append(all, v)
				}
			}
			b, err := msgpack.Marshal(map[string]any{"all": all})
			ts.Check(err)
			payload, err := msgjson.Append(nil, b)
			ts.Check(err)
			appendTo(ts, args[0], fmt.Sprintf(`{"type":"debug:log","payload":%s}`+"\n", payload))
		}
	},
	// again ANSWERS FILE writes a dispatch for each answer, with its result as payload.
	"again": func(ts *testscript.TestScript, _ bool, args []string) {
		for line := range strings.Lines(ts.ReadFile(args[0])) {
			_, result, found := strings.Cut(strings.TrimSpace(line), `"result":`)
			if !found {
				ts.Fatalf("no result: %s", line)
			}
			appendTo(ts, args[1], `{"type":"debug:log","payload":`+result+"\n")
		}
	},
	// cut FILE drops the last byte of a file.
	"cut": func(ts *testscript.TestScript, _ bool, args []string) {
		b := ts.ReadFile(args[0])
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b[:len(b)-1]), 0o600))
	},
	// edit FILE OLD NEW replaces the first OLD.
	"edit": func(ts *testscript.TestScript, _ bool, args []string) {
		b := ts.ReadFile(args[0])
		if !strings.Contains(b, args[1]) {
			ts.Fatalf("%s does not hold %s", args[0], args[1])
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(b, args[1], args[2], 1)), 0o600))
	},
}

func TestExitStatus(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.jsonl")
	if err := os.WriteFile(bad, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{0, []string{"version"}},
		{0, []string{"run", os.DevNull}},
		{exitFailed, []string{"run", bad}},
		{exitFailed, []string{"verify", bad}},
		{exitFailed, []string{"actions", "nothing"}},
		{exitUsage, []string{"run", "--no-such-flag"}},
		{exitUsage, []string{"run", "a", "b"}},
		{exitUsage, []string{"run", "--max-depth", "0x"}},
		{exitUsage, []string{"run", "--max-depth", "200"}},
		{exitUsage, []string{"run", bad + ".missing"}},
		{exitUsage, []string{"verify"}},
		{exitUsage, []string{"verify", bad + ".missing"}},
		{exitUsage, []string{"fly"}},
		{exitUsage, []string{"serve", "a"}},
		{exitUsage, []string{"serve", "--listen", "0.0.0.0:0", "--in-process"}},
		{exitUsage, []string{"serve", "--rate", "-1"}},
		{exitFailed, []string{"serve", "--in-process", "--listen", "203.0.113.1:1"}},
		{exitUsage, []string{"top", "a", "b"}},
		{exitUsage, []string{"top", "--count", "0"}},
		{exitUsage, []string{"top", "--interval", "99ms", "127.0.0.1:1"}},
		{exitFailed, []string{"top", "--interval", "100ms", "127.0.0.1:1"}},
		{exitFailed, []string{"top", "--interval", "1h", "127.0.0.1:1"}},
		{exitUsage, []string{"top", "--interval", "3600001ms", "127.0.0.1:1"}},
		{exitFailed, []string{"top", "--json", "--count", "1", "127.0.0.1:1"}},
		{exitUsage, []string{"top", "--json", "--plain", "127.0.0.1:1"}},
		{exitUsage, []string{"top", "--interval", "often"}},
		{exitUsage, []string{"top", "ftp://games"}},
		{exitUsage, []string{"top", "--ca", bad, "https://127.0.0.1:1"}},
		{exitFailed, []string{"top", "127.0.0.1:1"}},
		{exitUsage, []string{"bench", "--for", "0s"}},
		{exitUsage, []string{"bench", "--only", "nothing"}},
		{exitUsage, []string{"bench", "--core", bad}},
		{exitUsage, []string{"run", "--core", bad, os.DevNull}},
		{exitUsage, []string{"run", "--core", bad, "--in-process", os.DevNull}},
		{exitUsage, []string{"run", "--core", bad + ".missing", os.DevNull}},
		{exitUsage, []string{"verify", "--core", bad, "../../integration/testdata/conformance/fuzz-game-1-00.jsonl"}},
		{exitUsage, []string{"actions", "--core", bad}},
	} {
		if got := execute(c.args); got != c.want {
			t.Errorf("%q ends with %d, want %d", c.args, got, c.want)
		}
	}
}

func appendTo(ts *testscript.TestScript, name, text string) {
	f, err := os.OpenFile(ts.MkAbs(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = f.WriteString(text)
	ts.Check(err)
	ts.Check(f.Close())
}

// recorder turns a trace into input for run: it notes each action as it was sent.
type recorder struct {
	replay.Engine
	lines bytes.Buffer
	n     int
}

func (r *recorder) Dispatch(ctx context.Context, s trace.Step) (trace.Outcome, error) {
	r.n++
	var entropy [16]byte
	copy(entropy[:], fmt.Sprintf("blackjack %d", r.n))
	payload, err := msgjson.Append(nil, s.Payload)
	if err != nil {
		return trace.Outcome{}, err
	}
	line := fmt.Sprintf(`{"type":%q,"payload":%s,"now":%d,"entropy":"%x"}`, s.Type, payload, s.Now, entropy)
	r.lines.WriteString(line + "\n")
	action, value, now := replay.Step(s)
	return replay.Outcome(r.Engine.Engine.Dispatch(ctx, action, value, now, host.Entropy(entropy)))
}

func (r *recorder) State(ctx context.Context) ([]byte, error) {
	r.lines.WriteString(`{"digest":true}` + "\n")
	return r.Engine.State(ctx)
}

// examples/blackjack.jsonl is a whole recorded game as input for run. It is one of the traces,
// with real identifiers in place of their names.
func TestTheExampleIsTheRecordedGame(t *testing.T) {
	const name = "../../examples/blackjack.jsonl"
	tr, err := trace.ReadFile("../../integration/testdata/conformance/game-blackjack-1-00.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(t.Context(), host.Options{InProcess: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Shutdown(context.Background()) }()
	e, err := h.Open(t.Context(), "e", host.EngineOptions{Setup: host.Raw(tr.Setup)})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Engine: replay.Engine{Engine: e}}
	setup, err := msgjson.Append([]byte(`{"setup":`), tr.Setup)
	if err != nil {
		t.Fatal(err)
	}
	r.lines.Write(append(setup, "}\n"...))
	if report, err := (&trace.Verifier{}).Verify(t.Context(), tr, r); err != nil || report.Difference != nil {
		t.Fatal(report.Difference, err)
	}
	if *update {
		if err := os.WriteFile(name, r.lines.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(have, r.lines.Bytes()) {
		t.Errorf("%s is not the recorded game; go test ./cmd/hypertoken -run Example -update (%v)", name, err)
	}
}
