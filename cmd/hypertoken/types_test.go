package main

import (
	"bytes"
	"strings"
	"testing"

	"hypertoken/host"
)

// A core may describe its fields as it likes.
func TestTheListOfActionsCanBePrinted(t *testing.T) {
	const evil = "\x1b[2J\u009b"
	var b bytes.Buffer
	err := writeActions(&b, []host.ActionInfo{{Name: evil, About: evil, Result: evil, Fields: []host.FieldInfo{
		{Name: evil, Kind: "map", Shape: evil}, {Name: evil, Kind: evil, Default: evil}, {Name: "*", Kind: evil},
	}}})
	if err != nil || strings.ContainsAny(b.String(), evil[:1]+evil[4:]) {
		t.Errorf("%v, %q", err, &b)
	}
}
