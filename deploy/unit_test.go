package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hypertoken/internal/require"
)

// unit returns what the unit sets, each name with its values in their order.
func unit(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile("systemd/hypertoken.service")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string][]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			set[name] = append(set[name], strings.Fields(value)...)
		}
	}
	return set
}

func TestTheUnitIsValid(t *testing.T) {
	analyze := require.Tool(t, "systemd-analyze")
	b, err := os.ReadFile("systemd/hypertoken.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program has to be there.
	file := filepath.Join(t.TempDir(), "hypertoken.service")
	text := strings.Replace(string(b), "/usr/local/bin/hypertoken", "/bin/true", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", file).CombinedOutput(); err != nil ||
		len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// To systemd an end by SIGHUP, SIGINT, SIGTERM or SIGPIPE is a clean one. The server ends by the
// first and the last only if something is wrong.
func TestTheUnitRestartsWhatASignalHasEnded(t *testing.T) {
	set := unit(t)
	if got := set["Restart"]; !slices.Equal(got, []string{"on-failure"}) {
		t.Errorf("Restart=%v", got)
	}
	for _, signal := range []string{"SIGPIPE", "SIGHUP"} {
		if !slices.Contains(set["RestartForceExitStatus"], signal) {
			t.Errorf("nothing is restarted after %s: RestartForceExitStatus=%v", signal, set["RestartForceExitStatus"])
		}
		for _, name := range []string{"SuccessExitStatus", "RestartPreventExitStatus"} {
			if slices.Contains(set[name], signal) {
				t.Errorf("%s=%v", name, set[name])
			}
		}
	}
}

// The games are in a directory that systemd makes and keeps. The server is started again however
// often its disk fails.
func TestTheUnitKeepsGames(t *testing.T) {
	set := unit(t)
	if got := set["StateDirectory"]; !slices.Equal(got, []string{"hypertoken"}) {
		t.Errorf("StateDirectory=%v", got)
	}
	start := set["ExecStart"]
	if at := slices.Index(start, "--data"); at < 0 || !slices.Equal(start[at+1:], []string{"${STATE_DIRECTORY}"}) {
		t.Errorf("ExecStart=%v, want --data ${STATE_DIRECTORY} at its end", start)
	}
	if got := set["StartLimitIntervalSec"]; !slices.Equal(got, []string{"0"}) {
		t.Errorf("StartLimitIntervalSec=%v: systemd gives a server up that ends often", got)
	}
	// Of the statuses in docs/observability.md, only wrong usage stays as it is by itself.
	if got := set["RestartPreventExitStatus"]; !slices.Equal(got, []string{"2"}) {
		t.Errorf("RestartPreventExitStatus=%v", got)
	}
	if got := set["SuccessExitStatus"]; len(got) > 0 {
		t.Errorf("SuccessExitStatus=%v", got)
	}
}

// The unit's filter lets through what the server and its workers need to confine themselves, and
// its workers need no more than what it lets through.
func TestTheUnitLetsWorkersConfineThemselves(t *testing.T) {
	set := unit(t)
	for name, want := range map[string]string{"NoNewPrivileges": "yes", "MemoryDenyWriteExecute": "no",
		"CapabilityBoundingSet": ""} {
		if values, there := set[name]; !there || strings.Join(values, " ") != want {
			t.Errorf("%s=%v, want %q", name, values, want)
		}
	}
	analyze := require.Tool(t, "systemd-analyze")
	allowed := map[string]bool{}
	var allow func(string)
	allow = func(name string) {
		if !strings.HasPrefix(name, "@") {
			allowed[name] = true
			return
		}
		out, err := exec.CommandContext(t.Context(), analyze, "syscall-filter", name).Output()
		if err != nil {
			t.Fatalf("systemd-analyze syscall-filter %s: %v", name, err)
		}
		for _, line := range strings.Split(string(out), "\n")[1:] {
			if f := strings.Fields(line); len(f) == 1 && !strings.HasPrefix(f[0], "#") {
				allow(f[0])
			}
		}
	}
	for _, name := range set["SystemCallFilter"] {
		allow(name)
	}
	for _, name := range []string{
		// What starts and confines a worker.
		"prctl", "capget", "capset", "memfd_create", "clone", "execve", "pidfd_open", "pidfd_send_signal", "waitid",
		"seccomp",
		"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "prlimit64", "mkdirat", "unlinkat",
		// What a worker does then.
		"socket", "bind", "listen", "accept4", "getsockopt", "poll", "ppoll", "futex", "mmap", "mprotect", "madvise",
		"epoll_pwait",
		"tgkill", "rt_sigaction", "sigaltstack", "sched_yield", "getrandom",
		// The store on disk makes these calls.
		"fsync", "fdatasync", "sync_file_range", "fallocate", "flock", "fcntl", "renameat", "linkat", "statfs",
		"fstatfs", "ftruncate", "pread64", "pwrite64",
	} {
		if !allowed[name] {
			t.Errorf("the unit's SystemCallFilter refuses %s", name)
		}
	}
	if allowed["bpf"] || allowed["ptrace"] {
		t.Error("the filter was not read as systemd reads it")
	}
}
