package check

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"hypertoken/internal/require"
)

// The configurations of NATS servers that are shipped. Compose has that of Kubernetes.
const (
	kubernetesConf = "../kubernetes/nats.conf"
	systemdConf    = "../systemd/nats.conf"
)

// conf is what a configuration says.
type conf struct {
	*server.Options
	port, http, clusterPort int32
	routes, files           []string
	storeDir                string
	maxStore                int64
	lameDuck                time.Duration
}

var fileLine = regexp.MustCompile(`(?m)^\s*(?:cert|key|ca)_file: (.*)$`)

// makeSecrets runs deploy/secrets, and returns its directory.
func makeSecrets(t *testing.T, hosts ...string) string {
	t.Helper()
	require.Tool(t, "openssl")
	dir := filepath.Join(t.TempDir(), "secrets")
	c := exec.CommandContext(t.Context(), "../secrets", append([]string{dir}, hosts...)...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("deploy/secrets: %v\n%s", err, out)
	}
	return dir
}

// made replaces the paths of what deploy/secrets makes, as configurations and flags have them.
func made(dir string) *strings.Replacer {
	const mounted, credentials = "/etc/nats/tls/", "/run/credentials/nats-server.service/"
	certificate, key, ca := filepath.Join(dir, "nats.crt"), filepath.Join(dir, "nats.key"), filepath.Join(dir, "ca.crt")
	return strings.NewReplacer(mounted+"tls.crt", certificate, mounted+"tls.key", key, mounted+"ca.crt", ca,
		credentials+"nats.crt", certificate, credentials+"nats.key", key, credentials+"ca.crt", ca)
}

// readConf parses a configuration as the server does.
func readConf(t *testing.T, file string) conf {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(copied, []byte(made(makeSecrets(t)).Replace(string(b))), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SERVER_NAME", "nats-0")
	o, err := server.ProcessConfigFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	c := conf{Options: o, port: int32(o.Port), http: int32(o.HTTPPort), clusterPort: int32(o.Cluster.Port),
		storeDir: o.StoreDir, maxStore: o.JetStreamMaxStore, lameDuck: o.LameDuckGracePeriod + o.LameDuckDuration}
	for _, r := range o.Routes {
		c.routes = append(c.routes, r.Host)
	}
	for _, m := range fileLine.FindAllStringSubmatch(string(b), -1) {
		c.files = append(c.files, m[1])
	}
	return c
}

func TestServersAreConfiguredToLoseNothing(t *testing.T) {
	for _, file := range []string{kubernetesConf, systemdConf} {
		c := readConf(t, file)
		if !c.JetStream || !c.SyncAlways {
			t.Errorf("%s: sync_interval is not always", file)
		}
		for who, config := range map[string]*tls.Config{"clients": c.TLSConfig, "servers": c.Cluster.TLSConfig} {
			if config == nil || config.ClientAuth != tls.RequireAndVerifyClientCert {
				t.Errorf("%s: %s need no certificate", file, who)
			}
		}
		if len(c.routes) != 3 || !c.Cluster.NoAdvertise || c.maxStore <= 0 {
			t.Errorf("%s: routes %v, no_advertise %v, max_file_store %d", file, c.routes, c.Cluster.NoAdvertise,
				c.maxStore)
		}
		if len(c.files) != 6 {
			t.Errorf("%s: certificates in %v", file, c.files)
		}
	}
}

// A second run of deploy/secrets changes nothing, so it can be repeated.
func TestSecretsStay(t *testing.T) {
	dir := makeSecrets(t)
	read := func() string {
		var all strings.Builder
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) != 8 {
			t.Fatalf("%v %v", files, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(filepath.Base(f) + string(b))
		}
		return all.String()
	}
	before := read()
	if out, err := exec.CommandContext(t.Context(), "../secrets", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if read() != before {
		t.Error("something has changed")
	}
}
