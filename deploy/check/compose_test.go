package check

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeDir = "../compose"

// readCompose reads the file as Compose does: it is held against the specification.
func readCompose(t *testing.T) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{WorkingDir: composeDir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(composeDir, "compose.yaml")}}},
		func(o *loader.Options) { o.SetProjectName("hypertoken", false) })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ofKind returns the services whose names begin with a word, in order.
func ofKind(t *testing.T, p *types.Project, word string) (all []types.ServiceConfig) {
	t.Helper()
	for _, name := range p.ServiceNames() {
		if s := p.Services[name]; strings.HasPrefix(name, word) {
			all = append(all, s)
		}
	}
	if len(all) != 3 {
		t.Fatalf("%d services %s, want 3", len(all), word)
	}
	return all
}

// nodeArgs returns the arguments of a node after the program.
func nodeArgs(s types.ServiceConfig) []string {
	return append(slices.Clone(s.Entrypoint[1:]), s.Command...)
}

func TestComposeServersAndNodesFindEachOther(t *testing.T) {
	p := readCompose(t)
	conf := readConf(t, filepath.Join(composeDir, p.Configs["nats"].File))
	var servers []string
	for k, s := range ofKind(t, p, "nats-") {
		name := fmt.Sprint("nats-", k)
		alias := name + ".nats"
		servers = append(servers, fmt.Sprintf("nats://%s:%d", alias, conf.port))
		route := fmt.Sprintf("%s:%d", alias, conf.clusterPort)
		if s.Environment["SERVER_NAME"] == nil || *s.Environment["SERVER_NAME"] != name ||
			!slices.Contains(s.Networks["cluster"].Aliases, alias) || conf.routes[k] != route {
			t.Errorf("%s is not found as %s", s.Name, alias)
		}
		if len(s.Volumes) != 1 || s.Volumes[0].Target != conf.storeDir || s.Volumes[0].Source != name ||
			s.Volumes[0].Type != types.VolumeTypeVolume {
			t.Errorf("%s: %+v, want a volume of its own at %s", s.Name, s.Volumes, conf.storeDir)
		}
		for _, file := range conf.files {
			if !slices.ContainsFunc(s.Secrets, func(c types.ServiceSecretConfig) bool { return c.Target == file }) {
				t.Errorf("%s: no secret is at %s", s.Name, file)
			}
		}
		if len(s.Configs) != 1 || !slices.Contains(s.Command, s.Configs[0].Target) {
			t.Errorf("%s does not read %v", s.Name, s.Configs)
		}
		health, err := url.Parse(s.HealthCheck.Test[len(s.HealthCheck.Test)-1])
		if err != nil || portOf(t, health.Host) != conf.http {
			t.Errorf("%s: the health check asks %v", s.Name, health)
		}
		if got := time.Duration(*s.StopGracePeriod); got <= conf.lameDuck || s.StopSignal != "SIGUSR2" {
			t.Errorf("%s: %v and %s to stop, want more than %v and SIGUSR2", s.Name, got, s.StopSignal, conf.lameDuck)
		}
	}
	published := map[string]bool{}
	for _, s := range ofKind(t, p, "node-") {
		args := flags(nodeArgs(s))
		if !slices.Equal(strings.Split(args["cluster"], ","), servers) {
			t.Errorf("%s: --cluster is %s, want %v", s.Name, args["cluster"], servers)
		}
		if args["advertise"] != s.Name+":9465" {
			t.Errorf("%s: --advertise is %s", s.Name, args["advertise"])
		}
		for flag, file := range args {
			name, ok := strings.CutPrefix(file, "/run/secrets/")
			isMounted := func(c types.ServiceSecretConfig) bool { return c.Source == name }
			if ok && !slices.ContainsFunc(s.Secrets, isMounted) {
				t.Errorf("%s: no secret is at --%s=%s", s.Name, flag, file)
			}
		}
		port := s.Ports[0]
		if int32(port.Target) != portOf(t, args["listen"]) || port.HostIP != "127.0.0.1" || published[port.Published] {
			t.Errorf("%s: %+v", s.Name, port)
		}
		published[port.Published] = true
		drain, err := time.ParseDuration(args["drain-timeout"])
		if got := time.Duration(*s.StopGracePeriod); err != nil || got <= 3*drain {
			t.Errorf("%s: %v to stop, want more than three times %v", s.Name, got, drain)
		}
	}
	made := makeSecrets(t)
	for name, s := range p.Secrets {
		if _, err := os.Stat(filepath.Join(made, filepath.Base(s.File))); err != nil {
			t.Errorf("the secret %s is %s, which deploy/secrets does not make", name, s.File)
		}
	}
}

func TestComposeStartsAgainWhatEnds(t *testing.T) {
	for _, s := range readCompose(t).Services {
		if s.Restart != "unless-stopped" || s.HealthCheck == nil || !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) ||
			!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s: restart %s, health check %v, read only %v, without %v, %v", s.Name, s.Restart, s.HealthCheck, s.ReadOnly,
				s.CapDrop, s.SecurityOpt)
		}
	}
}
