package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hypertoken/internal/require"
)

// TestCoreScripts builds crates outside the repository, as a user does; each file in testdata/core
// is a script. The crates that they depend on are built once, in core-rs/target.
func TestCoreScripts(t *testing.T) {
	require.Deep(t)
	require.Unraced(t) // a worker has to compile a new core within StartTimeout
	require.Tool(t, "cargo")
	require.Tool(t, "bash")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(t.TempDir(), "cache")
	commands := serveCommands()
	maps.Copy(commands, scriptCommands)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/core",
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"HOME", "PATH", "CARGO_HOME", "RUSTUP_HOME"} {
				if value, ok := os.LookupEnv(name); ok {
					env.Setenv(name, value)
				}
			}
			env.Setenv("XDG_CACHE_HOME", cache)
			env.Setenv("ROOT", root)
			env.Setenv("CARGO_TARGET_DIR", filepath.Join(root, "core-rs", "target"))
			return nil
		},
		Cmds: commands,
	})
}
