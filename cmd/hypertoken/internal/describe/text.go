package describe

import (
	"fmt"
	"io"
	"strings"

	"hypertoken/internal/printable"
)

// Text writes the records for a terminal.
func Text(w io.Writer, records []Record) error {
	var b strings.Builder
	for i, r := range records {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n    %s\n", r.Name, r.About)
		for _, f := range r.Fields {
			line := fmt.Sprintf("      %-20s %s%s", printable.Line(f.Name, 0), f.Shape, f.notes(", "))
			b.WriteString(line + "\n")
		}
		if r.Rest != nil {
			fmt.Fprintf(&b, "      %-20s %s\n", "any other", r.Rest)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// notes returns a text that says whether a field may be missing, and what it means.
func (f *Field) notes(separator string) string {
	var b strings.Builder
	if f.Optional {
		b.WriteString(separator + "optional")
	}
	if f.About != "" {
		b.WriteString(separator + f.About)
	}
	return b.String()
}

// Markdown writes the record with this name, and all records that it needs, as tables.
func (c *Core) Markdown(w io.Writer, name string) error {
	if c.Record(name) == nil {
		return fmt.Errorf("describe: there is no record %q", name)
	}
	var b strings.Builder
	order := []string{name}
	seen := map[string]bool{name: true}
	for i := 0; i < len(order); i++ {
		r := c.Record(order[i])
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| field | shape | meaning |\n| --- | --- | --- |\n", r.Name, r.About)
		for _, f := range r.Fields {
			notes := strings.TrimPrefix(f.notes("; "), "; ")
			fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", f.Name, cell(f.Shape.String()), cell(notes))
			f.Shape.records(func(name string) {
				if !seen[name] {
					seen[name] = true
					order = append(order, name)
				}
			})
		}
		if r.Rest != nil {
			fmt.Fprintf(&b, "| any other | `%s` | |\n", cell(r.Rest.String()))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell makes a text fit for a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// records calls f with each record that a shape names.
func (s *Shape) records(f func(name string)) {
	if s.Name != "" && !isScalar(s.Name) {
		f(s.Name)
	}
	for _, inner := range append([]*Shape{s.Items, s.Values}, s.OneOf...) {
		if inner != nil {
			inner.records(f)
		}
	}
}
