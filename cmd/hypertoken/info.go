package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"hypertoken/host"
	"hypertoken/internal/licenses"
	"hypertoken/internal/version"
)

func newActions() *cobra.Command {
	var f hostFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "actions [flags] [PREFIX]",
		Short: "List the actions with the fields of their payloads",
		Long: `actions lists the actions of the core: what each does, and the fields of its payload with
their kinds and defaults. PREFIX, such as stack or space:place, lists those that begin so.`,
		Example: "  hypertoken actions stack\n  hypertoken actions --json | jq '.[].name'",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			f.inProcess = true // there is no game to run
			h, err := f.open(c.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Shutdown(context.Background()) }()
			list, err := h.Actions(c.Context())
			if err != nil {
				return err
			}
			prefix := strings.Join(args, "")
			chosen := []host.ActionInfo{}
			for _, a := range list {
				if strings.HasPrefix(a.Name, prefix) {
					chosen = append(chosen, a)
				}
			}
			if len(chosen) == 0 {
				return fmt.Errorf("no action of this core begins with %q; 'hypertoken actions' lists all %d", prefix, len(list))
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), chosen)
			}
			return writeActions(c.OutOrStdout(), chosen)
		},
	}
	f.register(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func writeActions(w io.Writer, list []host.ActionInfo) error {
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n    %s\n", a.Name, a.About)
		for _, field := range a.Fields {
			need := "optional"
			switch {
			case field.Required:
				need = "required"
			case field.Default != "":
				need = "default " + field.Default
			}
			fmt.Fprintf(&b, "      %-16s %s, %s\n", field.Name, field.Kind, need)
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
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if notices {
				_, err := io.WriteString(c.OutOrStdout(), licenses.Text)
				return err
			}
			f.inProcess = true // there is no game to run
			h, err := f.open(c.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Shutdown(context.Background()) }()
			_, err = fmt.Fprintf(c.OutOrStdout(), "hypertoken %s\ncore sha256:%s, %s\n%s %s/%s\n",
				version.String(), h.CoreHash(), h.CoreToolchain(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	f.register(c.Flags())
	c.Flags().BoolVar(&notices, "licenses", false, "print the notices and licences of what this program is made of")
	return c
}
