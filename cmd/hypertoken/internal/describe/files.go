package describe

import (
	"bytes"
	"context"
	_ "embed"

	"hypertoken/host"
)

// stateHead is the beginning of docs/state.md, before the tables.
//
//go:embed statehead.md
var stateHead string

// actionsHead is the beginning of the npm package's ACTIONS.md, before the tables.
//
//go:embed actionshead.md
var actionsHead string

// Files returns the files that are generated from the description of the built-in core, by their
// paths in the repository.
func Files() (map[string][]byte, error) {
	ctx := context.Background()
	h, err := host.New(ctx, host.Options{InProcess: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.Shutdown(ctx) }()
	c, err := Of(ctx, h)
	if err != nil {
		return nil, err
	}
	var ts, goFile bytes.Buffer
	state := bytes.NewBufferString(stateHead)
	actions := bytes.NewBufferString(actionsHead)
	for _, err := range []error{
		c.TypeScript(&ts), c.Go(&goFile, "builtin"), c.Markdown(state, "State"), c.Markdown(state, "Setup"),
		c.ActionsMarkdown(actions),
	} {
		if err != nil {
			return nil, err
		}
	}
	return map[string][]byte{
		"browser/ACTIONS.md":                                  actions.Bytes(),
		"browser/src/actions.d.ts":                            ts.Bytes(),
		"cmd/hypertoken/internal/describe/builtin/builtin.go": goFile.Bytes(),
		"docs/state.md":                                       state.Bytes(),
	}, nil
}
