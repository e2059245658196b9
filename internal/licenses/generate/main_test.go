package main

import (
	"os"
	"strings"
	"testing"

	"hypertoken/internal/licenses"
)

// NOTICE and the licences name every module that the program is linked from, in the version that is linked.
func TestEveryLinkedModuleIsNamed(t *testing.T) {
	text, notice, err := generate("../../..")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../../NOTICE")
	if err != nil || string(have) != notice {
		t.Errorf("NOTICE is not what the program is linked from: make notice (%v)", err)
	}
	if licenses.Text != text {
		t.Error("internal/licenses/THIRD_PARTY.txt is not what the program is linked from: make notice")
	}
	modules, _, err := linked("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for path, m := range modules {
		if !strings.Contains(licenses.Text, "\n"+path+" "+m.version+"\n") {
			t.Errorf("%s %s is linked and has no licence: make notice", path, m.version)
		}
	}
	if len(modules) < 20 || !strings.Contains(notice, "github.com/hashicorp/yamux") ||
		!strings.Contains(text, "Mozilla Public License, version 2.0") {
		t.Errorf("%d modules", len(modules))
	}
}
