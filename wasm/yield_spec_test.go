package wasm

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"hypertoken/internal/require"
)

// specification returns the folders with the test suite of WebAssembly's specification. wazero's
// module contains them.
func specification(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/tetratelabs/wazero").Output()
	dir := filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
	if _, missing := os.Stat(dir); err != nil || missing != nil {
		t.Skipf("wazero's sources are not here: %v, %v", err, missing)
	}
	return []string{filepath.Join(dir, "v1", "testdata"), filepath.Join(dir, "v2", "testdata")}
}

// runtimes returns two runtimes, for plain and for rewritten modules.
func runtimes(t testing.TB) (plain, yielding wazero.Runtime) {
	t.Helper()
	make := func() wazero.Runtime {
		r := wazero.NewRuntimeWithConfig(t.Context(),
			wazero.NewRuntimeConfigCompiler().WithCoreFeatures(api.CoreFeaturesV2).WithMemoryLimitPages(1024))
		t.Cleanup(func() { _ = r.Close(context.Background()) })
		return r
	}
	plain, yielding = make(), make()
	if err := offerYield(t.Context(), yielding); err != nil {
		t.Fatal(err)
	}
	return plain, yielding
}

// imports reports whether a module imports anything.
func imports(m wazero.CompiledModule, code []byte) bool {
	r := binaryReader{b: code, next: 8}
	for r.more() {
		if id, s := r.section(); id == sectionImport {
			return s.number() > 0
		}
	}
	return len(m.ImportedFunctions())+len(m.ImportedMemories()) > 0
}

// A module that is valid in the specification's suite can be rewritten, and stays valid. A module
// that is invalid there does not become valid.
func TestTheSpecificationsModulesAreRewritten(t *testing.T) {
	t.Parallel()
	plain, yielding := runtimes(t)
	accepted, refused := 0, 0
	for _, dir := range specification(t) {
		files, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range require.Sample(10, files) {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, invalid := plain.CompileModule(t.Context(), code)
			rewritten, err := rewrite(code)
			if err == nil {
				var n wazero.CompiledModule
				if n, err = yielding.CompileModule(t.Context(), rewritten); err == nil {
					_ = n.Close(t.Context())
				} else if invalid == nil {
					t.Errorf("%s: rewritten it is not valid: %v", filepath.Base(file), err)
				}
			}
			switch {
			case invalid != nil && err == nil:
				t.Errorf("%s is not valid (%v) and becomes so", filepath.Base(file), invalid)
			case invalid != nil:
				refused++
			case err != nil && !imports(m, code) && !strings.Contains(err.Error(), "it has no code"):
				t.Errorf("%s: %v", filepath.Base(file), err)
			case err == nil:
				accepted++
			}
			if m != nil {
				_ = m.Close(t.Context())
			}
		}
	}
	if least := require.Rounds(100, 1000); accepted < least || refused < least {
		t.Errorf("%d modules are accepted, %d are refused: the test shows little", accepted, refused)
	}
}

type specCommand struct {
	Type, Filename string
	Action         struct {
		Type, Module, Field string
		Args                []struct {
			Type  string
			Lane  string `json:"lane_type"`
			Value any
		}
	}
}

// stack returns the arguments of an action in the form that a call takes.
func (c *specCommand) stack(t *testing.T) (stack []uint64) {
	t.Helper()
	number := func(v any) uint64 {
		s, _ := v.(string)
		if s == "null" {
			return 0
		}
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, a := range c.Action.Args {
		lanes, ok := a.Value.([]any)
		if !ok {
			stack = append(stack, number(a.Value))
			continue
		}
		halves := [2]uint64{}
		per := len(lanes) / 2
		for k, v := range lanes {
			halves[k/per] |= number(v) << (k % per * (64 / per))
		}
		stack = append(stack, halves[:]...)
	}
	return stack
}

// A rewritten module of the suite returns the same results as the plain one, and traps for the
// same reasons.
func TestTheSpecificationsModulesRunAlike(t *testing.T) {
	t.Parallel()
	calls := 0
	for _, dir := range specification(t) {
		scripts, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range require.Sample(8, scripts) {
			calls += runScript(t, script)
		}
	}
	if calls < require.Rounds(1000, 10_000) {
		t.Errorf("%d calls: the test shows little", calls)
	}
}

func runScript(t *testing.T, script string) (calls int) {
	b, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	var commands struct{ Commands []specCommand }
	if err := json.Unmarshal(b, &commands); err != nil {
		t.Fatal(err)
	}
	plain, yielding := runtimes(t)
	defer func() { _, _ = plain.Close(t.Context()), yielding.Close(t.Context()) }()
	var modules [2]api.Module
	for _, c := range commands.Commands {
		switch c.Type {
		case "module":
			modules = [2]api.Module{}
			code, err := os.ReadFile(filepath.Join(filepath.Dir(script), c.Filename))
			if err != nil {
				t.Fatal(err)
			}
			rewritten, err := rewrite(code)
			if err != nil {
				continue // the module imports something, or has no code
			}
			config := wazero.NewModuleConfig().WithName("")
			var errs [2]error
			modules[0], errs[0] = plain.InstantiateWithConfig(t.Context(), code, config)
			modules[1], errs[1] = yielding.InstantiateWithConfig(t.Context(), rewritten, config)
			if (errs[0] == nil) != (errs[1] == nil) {
				t.Errorf("%s: plain %v, rewritten %v", c.Filename, errs[0], errs[1])
			}
			if errs[0] != nil || errs[1] != nil {
				modules = [2]api.Module{}
			}
		case "assert_return", "assert_trap", "action":
			if c.Action.Type != "invoke" || c.Action.Module != "" || modules[0] == nil {
				continue
			}
			var results [2][]uint64
			var errs [2]string
			for k, m := range modules {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				r, err := m.ExportedFunction(c.Action.Field).Call(ctx, c.stack(t)...)
				cancel()
				results[k] = r
				if err != nil {
					errs[k] = firstLine(err)
				}
			}
			calls++
			if !slices.Equal(results[0], results[1]) || errs[0] != errs[1] {
				t.Errorf("%s %s: plain %v %q, rewritten %v %q", filepath.Base(script), c.Action.Field, results[0],
					errs[0], results[1], errs[1])
			}
		}
	}
	return calls
}
