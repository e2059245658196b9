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
		r.markdown(&b, "##")
		for _, f := range r.Fields {
			f.Shape.records(func(name string) {
				if !seen[name] {
					seen[name] = true
					order = append(order, name)
				}
			})
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// markdown writes the record as a heading and a table.
func (r *Record) markdown(b *strings.Builder, heading string) {
	fmt.Fprintf(b, "\n%s %s\n\n%s\n\n| field | shape | meaning |\n| --- | --- | --- |\n", heading, r.Name, r.About)
	for _, f := range r.Fields {
		notes := strings.TrimPrefix(f.notes("; "), "; ")
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", f.Name, cell(f.Shape.String()), cell(notes))
	}
	if r.Rest != nil {
		fmt.Fprintf(b, "| any other | `%s` | |\n", cell(r.Rest.String()))
	}
}

// ActionsMarkdown writes the actions as tables, one for each family, and then all records. The
// family of an action is its name up to the colon.
func (c *Core) ActionsMarkdown(w io.Writer) error {
	var b strings.Builder
	last := ""
	for i, a := range c.Actions {
		family, _, _ := strings.Cut(a.Name, ":")
		if i == 0 || family != last {
			fmt.Fprintf(&b, "\n## %s\n\n| action | fields | returns | what it does |\n| --- | --- | --- | --- |\n", family)
			last = family
		}
		var fields []string
		for _, f := range a.Fields {
			mark, about := "", ""
			if f.Optional {
				mark = "?"
			}
			if f.About != "" {
				about = ", " + f.About
			}
			fields = append(fields, fmt.Sprintf("`%s%s: %s`%s", f.Name, mark, cell(f.Shape.String()), cell(about)))
		}
		if a.Rest {
			fields = append(fields, "any")
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n",
			a.Name, strings.Join(fields, "<br>"), cell(a.Result.String()), cell(a.About))
	}
	b.WriteString("\n## Records\n")
	for _, r := range c.Records {
		r.markdown(&b, "###")
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
