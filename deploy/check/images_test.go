package check

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Images are of the versions that everything is tested with.
func TestImagesHaveTheVersionsOfGoMod(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Go      string
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	nats := ""
	for _, r := range mod.Require {
		if r.Path == "github.com/nats-io/nats-server/v2" {
			nats = "nats:" + strings.TrimPrefix(r.Version, "v") + "-alpine"
		}
	}
	m := readManifests(t)
	if got := m.nats.Spec.Template.Spec.Containers[0].Image; got != nats {
		t.Errorf("the StatefulSet has %s, want %s", got, nats)
	}
	for _, s := range ofKind(t, readCompose(t), "nats-") {
		if s.Image != nats {
			t.Errorf("%s has %s, want %s", s.Name, s.Image, nats)
		}
	}
	b, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	from := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(b), -1)
	golang := strings.TrimPrefix(from[0][1], "golang:")
	if !strings.HasPrefix(mod.Go, golang+".") || from[1][1] != "scratch" {
		t.Errorf("the Dockerfile builds with %s, and go.mod wants %s", golang, mod.Go)
	}
}
