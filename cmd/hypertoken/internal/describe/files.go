package describe

import (
	"bytes"
	"context"

	"hypertoken/host"
)

const stateHead = `# The state

What ` + "`Engine.State`" + `, the line ` + "`{\"state\":true}`" + ` and ` + "`engine.state()`" + ` of the npm package return. ` + "`hypertoken actions --records`" + ` prints
the same tables, and ` + "`hypertoken actions --go`" + ` and ` + "`--typescript`" + ` write them as types. This file is generated: ` + "`make types`" + `
writes it from what the core says of itself.

A shape is ` + "`any`, `null`, `bool`, `number`, `int` (a whole number), `string`, a string itself as `'arc'`" + `, the name of a record below,
` + "`map<S>` (string keys, values of the shape S), `S[]` (an array) or `A|B`" + ` (one of both). Numbers that are integral and within
±(2^53 - 1) are integers. The top of a stack, a source or a zone is the end of its array.

A setup has the shape of the record Setup. It may not have other keys, and neither may a payload, unless the list of actions says so.
game:setState writes any value into places of the shape ` + "`any`" + `, into the amounts of an agent and into transactions. Elsewhere a value
of another kind fails: a built-in section would be malformed.
`

// Files returns what is generated from the description of the built-in core, by the files' names in the repository.
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
	for _, err := range []error{
		c.TypeScript(&ts), c.Go(&goFile, "builtin"), c.Markdown(state, "State"), c.Markdown(state, "Setup"),
	} {
		if err != nil {
			return nil, err
		}
	}
	return map[string][]byte{
		"browser/src/actions.d.ts":                            ts.Bytes(),
		"cmd/hypertoken/internal/describe/builtin/builtin.go": goFile.Bytes(),
		"docs/state.md":                                       state.Bytes(),
	}, nil
}
