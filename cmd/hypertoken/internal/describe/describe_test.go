package describe_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/cmd/hypertoken/internal/describe"
	"hypertoken/cmd/hypertoken/internal/describe/builtin"
	"hypertoken/host"
)

func TestParseShape(t *testing.T) {
	for text, want := range map[string]string{
		"any":                       "any",
		"Token":                     "Token",
		"Token[][]":                 "Token[][]",
		"map<Placement[]>":          "map<Placement[]>",
		"number|string|null":        "number|string|null",
		"(map<any>|null)[]|null":    "(map<any>|null)[]|null",
		"'arc'|'linear'":            "'arc'|'linear'",
		"((int))":                   "int",
		"Token|null[]":              "Token|null[]",
		"map<(Token|null)[]>|'a b'": "map<(Token|null)[]>|'a b'",
	} {
		s, err := describe.ParseShape(text)
		if err != nil || s.String() != want {
			t.Errorf("%q is %v, want %q (%v)", text, s, want, err)
		}
	}
	for text, want := range map[string]string{
		"":                               "begins no shape",
		"token":                          "begins no shape",
		"Token[":                         "is left over",
		"Token]":                         "is left over",
		"map<any":                        "not closed",
		"(any":                           "not closed",
		"'arc":                           "not closed",
		"any|":                           "begins no shape",
		"any any":                        "is left over",
		strings.Repeat("(", 40):          "more than 32 deep",
		"any" + strings.Repeat("[]", 33): "more than 32 deep",
		strings.Repeat("x", 1025):        "longer than 1024",
	} {
		if s, err := describe.ParseShape(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.50q is %v, want an error with %q, got %v", text, s, want, err)
		}
	}
}

func FuzzParseShape(f *testing.F) {
	for _, text := range []string{
		"any", "Token[][]", "map<Placement[]>", "(map<any>|null)[]|null", "'arc'|'linear'", "((", "map<",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := describe.ParseShape(text)
		if err != nil {
			return
		}
		again, err := describe.ParseShape(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q is written as %q, and read as %v (%v)", text, s, again, err)
		}
	})
}

// The generated files are committed, and up to date: `make types` writes them.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	files, err := describe.Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../../../..", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the core says of itself: run 'make types' and commit it (%v)", name, err)
		}
	}
}

// A game that is played with the generated types alone.
func TestGeneratedGo(t *testing.T) {
	ctx := t.Context()
	e, err := host.NewEngine(ctx, host.Options{InProcess: true}, host.EngineOptions{
		Setup: builtin.Setup{Stack: []builtin.Token{
			{ID: "a", Label: "Ace", More: map[string]any{"rank": int64(1)}}, {ID: "b"}, {ID: "c"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Shutdown(ctx) }()
	run := func(p interface{ ActionType() string }) (host.Result, error) {
		return e.Dispatch(ctx, p.ActionType(), p)
	}

	if _, err := run(builtin.StackReverse{}); err != nil {
		t.Fatal(err)
	}
	drawn, err := host.As[builtin.StackDrawResult](run(builtin.StackDraw{Count: new(int64(2))}))
	if err != nil || len(drawn) != 2 ||
		drawn[0].ID != "a" || drawn[0].Label != "Ace" || drawn[0].More["rank"] != int64(1) {
		t.Fatalf("drawn: %+v, %v", drawn, err)
	}
	// Fields that the types do not have are kept.
	placed, err := host.As[builtin.SpacePlaceResult](run(builtin.SpacePlace{
		Zone: "table", Card: drawn[0], Opts: &builtin.PlaceOptions{X: new(1.5), FaceUp: new(false)},
	}))
	if err != nil || placed == nil || placed.X != 1.5 || placed.FaceUp ||
		placed.TokenSnapshot.More["rank"] != int64(1) {
		t.Fatalf("placed: %+v, %v", placed, err)
	}
	create := builtin.AgentCreate{Name: "ann", Meta: map[string]any{"seat": 1}}
	agent, err := host.As[builtin.AgentCreateResult](run(create))
	if err != nil || agent.Name != "ann" || !agent.Active {
		t.Fatalf("agent: %+v, %v", agent, err)
	}
	if _, err := run(builtin.AgentGiveResource{Name: "ann", Resource: "gold", Amount: new(3.0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := run(builtin.GameSetState{Key: "round", Value: map[string]any{"n": 1}}); err != nil {
		t.Fatal(err)
	}
	if logged, err := host.As[builtin.DebugLogResult](run(builtin.DebugLog{"x": "y"})); err != nil ||
		logged["x"] != "y" {
		t.Fatalf("logged: %v, %v", logged, err)
	}
	state, err := host.As[builtin.State](e.State(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if state.Agents["ann"].Resources["gold"] != 3 || len(state.Zones["table"]) != 1 || len(state.Stack.Stack) != 1 ||
		state.GameLoop.MaxTurns != 100 || state.Source != nil || state.More["round"] == nil {
		t.Errorf("the state: %+v", state)
	}
	// A token that is decoded and encoded again is the same.
	b, err := msgpack.Marshal(drawn[0])
	var again builtin.Token
	if err != nil || msgpack.Unmarshal(b, &again) != nil || again.More["rank"] != int64(1) || again.Label != "Ace" {
		t.Errorf("%+v came back as %+v (%v)", drawn[0], again, err)
	}
}

var update = flag.Bool("update", false, "write golden files")

// A core may come from anybody. Its description is refused, or the generated types can be parsed.
// The npm package writes the same types: its tests read the golden files.
func TestUntrustedDescriptions(t *testing.T) {
	evil := "x */ } \n func init() { panic(1) } // \x1b[31m"
	record := func(fields ...host.MemberInfo) []host.RecordInfo {
		return []host.RecordInfo{{Name: "Token", About: evil, Rest: "any", Fields: fields}}
	}
	actions := []host.ActionInfo{
		{Name: evil, About: evil, Result: "Token[]", Fields: []host.FieldInfo{
			{Name: evil, Kind: "any", Shape: "any", Default: evil}, {Name: "`\"'", Shape: "'`\"'"}, {Name: "a-b", Shape: "int"},
			{Name: "a b", Shape: "int"}, {Name: "", Shape: "int"}, {Name: "1", Shape: "Token"}, {Name: "more", Shape: "int"},
			{Name: "*"},
		}},
		{Name: "token", About: "as the record is called"}, {Name: "Token", About: "as well"},
		{Name: "type", About: "a word of Go"}, {Name: "<\u2028&\u00a0\"é\t", About: "a\u00a0b\u200b c*\u0000/ <é> 🂡"}, {Name: "*", About: "no letter"},
		{Name: "an:old", About: "of a core that describes no shapes", Fields: []host.FieldInfo{{Name: "n"}}},
	}
	records := append(record(host.MemberInfo{Name: evil, About: evil, Shape: "any"}), host.RecordInfo{
		Name: "Events", About: "what it raises", Fields: []host.MemberInfo{
			{Name: evil, About: evil, Shape: "Token|null"}, {Name: "token", Shape: "map<(Token|'it')[]>"},
		},
	})
	c, err := describe.New(actions, records)
	if err != nil {
		t.Fatal(err)
	}
	var golang, typeScript bytes.Buffer
	if err := c.Go(&golang, "game"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(golang.String(), "type TokenEventPayload = map[string][]any") {
		t.Errorf("the events are not in the Go file:\n%s", golang.String())
	}
	f, err := parser.ParseFile(token.NewFileSet(), "game.go", &golang, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for name := range f.Scope.Objects {
		if name == "init" {
			t.Error("a description became code")
		}
	}
	if err := c.TypeScript(&typeScript); err != nil {
		t.Fatal(err)
	}
	golden(t, "described.json", described(t, actions, records))
	golden(t, "described.d.ts", typeScript.Bytes())
	// In a string the end of a comment is harmless.
	s := strings.ReplaceAll(typeScript.String(), `'x */ }`, "'")
	if strings.Contains(s, "\x1b") || strings.Count(s, "/**") != strings.Count(s, "*/") {
		t.Errorf("the TypeScript:\n%s", s)
	}
	if err := c.Go(&golang, "no-name"); err == nil {
		t.Error("a package called no-name")
	}

	// Names that TypeScript and Go can't have are refused by those alone.
	comma := []host.MemberInfo{{Name: "a,omitempty", Shape: "int"}}
	odd, err := describe.New(nil, []host.RecordInfo{{Name: "Value", Fields: comma}})
	if err != nil {
		t.Fatal(err)
	}
	if err := odd.TypeScript(&typeScript); err == nil || !strings.Contains(err.Error(), "a type Value of its own") {
		t.Errorf("a record Value: %v", err)
	}
	if err := odd.Go(&golang, "game"); err == nil || !strings.Contains(err.Error(), `the field "a,omitempty" of "Value"`) {
		t.Errorf("a comma in a tag: %v", err)
	}
	twice := []host.ActionInfo{{Name: "a:b"}, {Name: "a:b"}}
	if _, err := describe.New(twice, nil); err == nil || !strings.Contains(err.Error(), `two actions with the name "a:b"`) {
		t.Errorf("an action twice: %v", err)
	}
	var text bytes.Buffer
	if err := describe.Text(&text, c.Records); err != nil || strings.Contains(text.String(), "\x1b") {
		t.Errorf("the text: %q, %v", &text, err)
	}
	// A record may contain itself if it need not do so.
	tree := record(host.MemberInfo{Name: "next", Shape: "Token", Optional: true},
		host.MemberInfo{Name: "all", Shape: "Token[]"},
		host.MemberInfo{Name: "map", Shape: "map<Token>"}, host.MemberInfo{Name: "or", Shape: "Token|null"})
	if _, err := describe.New(nil, tree); err != nil {
		t.Error(err)
	}

	for what, records := range map[string][]host.RecordInfo{
		`no value can be a "Token"`: record(host.MemberInfo{Name: "x", Shape: "Token"}),
		`no value can be a "A"`: {{Name: "A", Fields: []host.MemberInfo{{Name: "b", Shape: "B"}}},
			{Name: "B", Fields: []host.MemberInfo{{Name: "a", Shape: "A"}, {Name: "c", Shape: "C"}}}, {Name: "C"}},
		"can't be printed":   record(host.MemberInfo{Name: "x", Shape: "'\x1b[31m'"}),
		"there is no record": record(host.MemberInfo{Name: "x", Shape: "Card"}),
		"begins no shape":    record(host.MemberInfo{Name: "x", Shape: "card"}),
		"twice": record(host.MemberInfo{Name: "x", Shape: "any"},
			host.MemberInfo{Name: "x", Shape: "any"}),
		"no record can have":      {{Name: "token"}},
		"or there are two":        append(record(), record()...),
		`no record can have the `: {{Name: "To ken"}},
	} {
		if _, err := describe.New(nil, records); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want an error with %q, got %v", what, err)
		}
	}
}

// described returns a description as JSON, for the tests of the npm package.
func described(t *testing.T, actions []host.ActionInfo, records []host.RecordInfo) []byte {
	t.Helper()
	b, err := json.MarshalIndent(map[string]any{"actions": actions, "records": records}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// golden compares a text with a file of the npm package's tests. With -update it writes the file.
func golden(t *testing.T, name string, want []byte) {
	t.Helper()
	path := filepath.Join("../../../../browser/test/testdata", name)
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what is written now: run this test with -update, and commit it (%v)", name, err)
	}
}
