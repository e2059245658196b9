package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/licenses"
	"hypertoken/host"
	"hypertoken/internal/printable"
	"hypertoken/internal/version"
)

func newActions() *cobra.Command {
	var f hostFlags
	var asJSON bool
	var types typeFlags
	c := &cobra.Command{
		Use:   "actions [flags] [PREFIX]",
		Short: "List the actions with the fields of their payloads, or write them as types",
		Long: `actions lists the actions of the core: what each does, the fields of its payload with their
kinds and defaults, and the shape of its result. With PREFIX, such as stack or space:place, it
lists only the actions that begin with it. --records lists the records that the shapes name:
Token, Agent, State and others. --go and --typescript write payloads, results and records as
types.`,
		Example: `  hypertoken actions stack
  hypertoken actions --records State
  hypertoken actions --json | jq '.[].name'
  hypertoken actions --typescript >actions.d.ts
  hypertoken actions --go --package game --core game.wasm >game/actions.go`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			f.inProcess = true // there is no game to run
			h, err := f.open(c.Context(), nil)
			if err != nil {
				return err
			}
			defer func() { _ = h.Shutdown(context.Background()) }()
			list, err := h.Actions(c.Context())
			if err != nil {
				return err
			}
			prefix := strings.Join(args, "")
			if types.records {
				return writeRecords(c, h, prefix, asJSON)
			}
			chosen := []host.ActionInfo{}
			for _, a := range list {
				if strings.HasPrefix(a.Name, prefix) {
					chosen = append(chosen, a)
				}
			}
			if len(chosen) == 0 {
				return fmt.Errorf("no action of this core begins with %q; 'hypertoken actions' lists all %d", prefix,
					len(list))
			}
			if types.language() != "" {
				return types.write(c, h, chosen)
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), chosen)
			}
			return writeActions(c.OutOrStdout(), chosen)
		},
	}
	f.register(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	types.register(c)
	return c
}

// writeJSON writes a value as JSON. Characters that control a terminal are escaped.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(printable.AppendJSON(nil, b.Bytes()))
	return err
}

func writeActions(w io.Writer, list []host.ActionInfo) error {
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n    %s\n", printable.Line(a.Name, 0), printable.Line(a.About, 0))
		for _, field := range a.Fields {
			if field.Name == "*" {
				fmt.Fprintf(&b, "      %-16s %s, optional\n", "any other", printable.Line(field.Kind, 0))
				continue
			}
			need := "optional"
			switch {
			case field.Required:
				need = "required"
			case field.Default != "":
				need = "default " + printable.Line(field.Default, 0)
			}
			fmt.Fprintf(&b, "      %-16s %s, %s\n", printable.Line(field.Name, 0), fieldKind(field), need)
		}
		if a.Result != "" {
			fmt.Fprintf(&b, "      returns %s\n", printable.Line(a.Result, 0))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func newVersion() *cobra.Command {
	var f hostFlags
	var notices bool
	c := &cobra.Command{
		Use:   "version [flags]",
		Short: "Print the version of this program and of its core",
		Long: `version prints the version of this program, the hash of its core and the compiler that built
the core, and the version and platform of Go. --core shows a core of your own. --licenses
prints the notices and licences of the software in this program.

Exit status: 0 for success; 1 for a failure; 2 for wrong usage, such as a core that cannot run.`,
		Example: `  hypertoken version
  hypertoken version --core my-game.wasm
  hypertoken version --licenses | less`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if notices {
				_, err := io.WriteString(c.OutOrStdout(), licenses.Text)
				return err
			}
			f.inProcess = true // there is no game to run
			h, err := f.open(c.Context(), nil)
			if err != nil {
				return err
			}
			defer func() { _ = h.Shutdown(context.Background()) }()
			_, err = fmt.Fprintf(c.OutOrStdout(), "hypertoken %s\ncore sha256:%s, %s\n%s %s/%s\n",
				version.String(), h.CoreHash(), printable.Line(h.CoreToolchain(), 0),
				runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	f.register(c.Flags())
	c.Flags().BoolVar(&notices, "licenses", false, "print the notices and licences of the software in this program")
	return c
}
