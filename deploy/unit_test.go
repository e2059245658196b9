package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hypertoken/internal/require"
)

// unit returns what the unit of a server alone sets, each name with its values in their order.
func unit(t *testing.T) map[string][]string { return settings(t, "systemd/hypertoken.service") }

// settings returns what a file of a unit sets.
func settings(t *testing.T, file string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string][]string{}
	for _, line := range strings.Split(strings.ReplaceAll(string(b), "\\\n", " "), "\n") {
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			set[name] = append(set[name], strings.Fields(value)...)
		}
	}
	return set
}

func TestTheUnitsAreValid(t *testing.T) {
	analyze := require.Tool(t, "systemd-analyze")
	for _, row := range []struct {
		name    string
		service string
		dropIns []string
	}{
		{"a server alone", "hypertoken.service", nil},
		{"a node of a cluster", "hypertoken.service", []string{"hypertoken.service.d/cluster.conf"}},
		{"a NATS server", "nats-server.service", nil},
	} {
		dir := t.TempDir()
		for _, name := range append(row.dropIns, row.service) {
			b, err := os.ReadFile(filepath.Join("systemd", name))
			if err != nil {
				t.Fatal(err)
			}
			// The programs have to be there.
			text := strings.NewReplacer("/usr/local/bin/hypertoken", "/bin/true", "/usr/local/bin/nats-server",
				"/bin/true").Replace(string(b))
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, row.service)
		out, err := exec.CommandContext(t.Context(), analyze, "verify", file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: systemd-analyze verify: %v\n%s", row.name, err, out)
		}
	}
}

// A node keeps nothing, has time to give back what it has, and is started again after any end but wrong
// usage: it also ends by itself, as a member that was declared dead.
func TestTheUnitOfANode(t *testing.T) {
	set := settings(t, "systemd/hypertoken.service.d/cluster.conf")
	if got := set["Restart"]; !slices.Equal(got, []string{"always"}) {
		t.Errorf("Restart=%v", got)
	}
	if got, ok := set["StateDirectory"]; !ok || len(got) > 0 {
		t.Errorf("StateDirectory=%v", got)
	}
	start := set["ExecStart"]
	drain, err := time.ParseDuration(start[slices.Index(start, "--drain-timeout")+1])
	if err != nil {
		t.Fatal(err)
	}
	stop, err := time.ParseDuration(set["TimeoutStopSec"][0])
	if err != nil || stop <= 3*drain {
		t.Errorf("TimeoutStopSec=%v, want more than three times %v", stop, drain)
	}
	// Each file that the command names is a credential that is loaded.
	for _, word := range start {
		if name, ok := strings.CutPrefix(word, "${CREDENTIALS_DIRECTORY}/"); ok &&
			!slices.Contains(set["LoadCredential"], name+":/etc/hypertoken/"+name) {
			t.Errorf("%s is not loaded", word)
		}
	}
	// Each variable that it takes is set.
	env := settings(t, "systemd/cluster.env")
	for _, name := range []string{"LISTEN", "ADVERTISE", "NATS"} {
		if !slices.Contains(start, "${"+name+"}") || len(env[name]) != 1 {
			t.Errorf("%s: %v", name, env[name])
		}
	}
}

// A NATS server has time to give up what it leads, and its configuration has the files where systemd
// puts them.
func TestTheUnitOfANATSServer(t *testing.T) {
	set := settings(t, "systemd/nats-server.service")
	b, err := os.ReadFile("systemd/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := string(b)
	var needs time.Duration
	for _, name := range []string{"lame_duck_grace_period: ", "lame_duck_duration: "} {
		_, value, _ := strings.Cut(conf, "\n"+name)
		value, _, _ = strings.Cut(value, "\n")
		d, err := time.ParseDuration(value)
		if err != nil {
			t.Fatal(err)
		}
		needs += d
	}
	stop, err := time.ParseDuration(set["TimeoutStopSec"][0])
	if err != nil || stop <= needs || !slices.Equal(set["KillSignal"], []string{"SIGUSR2"}) {
		t.Errorf("TimeoutStopSec=%v, KillSignal=%v, want more than %v and SIGUSR2", stop, set["KillSignal"], needs)
	}
	if !strings.Contains(conf, "store_dir: /var/lib/"+set["StateDirectory"][0]+"\n") {
		t.Errorf("the journals are not in the state directory %v", set["StateDirectory"])
	}
	for _, c := range set["LoadCredential"] {
		name, _, _ := strings.Cut(c, ":")
		if strings.Count(conf, "_file: /run/credentials/nats-server.service/"+name+"\n") != 2 {
			t.Errorf("the configuration does not use %s for clients and for other servers", name)
		}
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
