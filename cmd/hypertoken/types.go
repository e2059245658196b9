package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hypertoken/cmd/hypertoken/internal/describe"
	"hypertoken/host"
	"hypertoken/internal/printable"
)

// typeFlags are the flags of `hypertoken actions` that write types.
type typeFlags struct {
	records, golang, typeScript bool
	packageName                 string
}

func (f *typeFlags) register(c *cobra.Command) {
	c.Flags().BoolVar(&f.records, "records", false, "list the records that shapes name, instead of the actions")
	c.Flags().BoolVar(&f.golang, "go", false, "write a file of Go with types for payloads, results and records")
	c.Flags().StringVar(&f.packageName, "package", "actions", "the `name` of the package that --go writes")
	c.Flags().BoolVar(&f.typeScript, "typescript", false, "write a file of TypeScript with the same types")
	c.MarkFlagsMutuallyExclusive("json", "go", "typescript")
	c.MarkFlagsMutuallyExclusive("records", "go", "typescript")
}

// language returns the language that types are written in, or "".
func (f *typeFlags) language() string {
	switch {
	case f.golang:
		return "Go"
	case f.typeScript:
		return "TypeScript"
	}
	return ""
}

func (f *typeFlags) write(c *cobra.Command, h *host.Host, actions []host.ActionInfo) error {
	records, err := h.Records(c.Context())
	if err != nil {
		return err
	}
	d, err := describe.New(actions, records)
	if err != nil {
		return err
	}
	if f.golang {
		return d.Go(c.OutOrStdout(), f.packageName)
	}
	return d.TypeScript(c.OutOrStdout())
}

// writeRecords lists the records whose names begin with prefix.
func writeRecords(c *cobra.Command, h *host.Host, prefix string, asJSON bool) error {
	all, err := h.Records(c.Context())
	if err != nil {
		return err
	}
	isOther := func(r host.RecordInfo) bool { return !strings.HasPrefix(r.Name, prefix) }
	chosen := slices.DeleteFunc(slices.Clone(all), isOther)
	if len(chosen) == 0 {
		const message = "no record of this core begins with %q; 'hypertoken actions --records' lists all %d"
		return fmt.Errorf(message, prefix, len(all))
	}
	if asJSON {
		return writeJSON(c.OutOrStdout(), chosen)
	}
	d, err := describe.New(nil, all)
	if err != nil {
		return err
	}
	d.Records = slices.DeleteFunc(d.Records, func(r describe.Record) bool { return !strings.HasPrefix(r.Name, prefix) })
	return describe.Text(c.OutOrStdout(), d.Records)
}

// fieldKind returns the kind of a field, or its shape if the shape says more.
func fieldKind(f host.FieldInfo) string {
	plain := map[string]string{"map": "map<any>", "array": "any[]", "string": "string"}[f.Kind]
	if plain != "" && f.Shape != "" && f.Shape != plain {
		return printable.Line(f.Shape, 0)
	}
	return printable.Line(f.Kind, 0)
}
