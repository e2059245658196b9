package sabotage_test

import (
	"strings"
	"testing"

	"hypertoken/internal/sabotage"
)

const source = `package p

func f() {
	g()
	h()
}

func g() {
	g()
	i()
}
`

func TestApply(t *testing.T) {
	for _, row := range []struct{ name, diff, want, err string }{
		{"a line is taken out", "@@ -4,2 +4 @@ func f() {\n \tg()\n-\th()\n", strings.Replace(source, "\th()\n", "", 1), ""},
		{"code above it has moved it", "@@ -40,2 +40,3 @@\n \tg()\n+\tj()\n \ti()\n", strings.Replace(source, "\ti()", "\tj()\n\ti()", 1), ""},
		{"an empty line has lost its space", "@@ -6,3 +6,3 @@\n }\n\n-func g() {\n+func G() {\n",
			strings.Replace(source, "func g", "func G", 1), ""},
		{"two hunks", "@@ -10 +10 @@\n-\ti()\n+\tj()\n@@ -5 +5 @@\n-\th()\n+\tj()\n",
			strings.NewReplacer("\th()", "\tj()", "\ti()", "\tj()").Replace(source), ""},
		{"old lines that are not there", "@@ -4,2 +4 @@ func f() {\n \tg()\n-\tk()\n", "", "the hunk @@ -4 @@ func f() { are not there"},
		{"old lines that are there twice", "@@ -4 +4 @@\n-\tg()\n+\tj()\n", "", "are there 2 times, at the lines [4 9]"},
		{"lines of two hunks", "@@ -4,2 +4,1 @@\n \tg()\n-\th()\n@@ -5 +4 @@\n-\th()\n+\tj()\n", "", "another hunk has"},
		{"no change", "@@ -5 +5 @@\n \th()\n", "", "it changes nothing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			hunks, err := sabotage.ParseDiff("--- a/p/p.go\n+++ b/p/p.go\n" + row.diff)
			if err != nil {
				t.Fatal(err)
			}
			got, err := sabotage.Apply([]byte(source), hunks)
			switch {
			case row.err == "" && err != nil:
				t.Error(err)
			case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
				t.Errorf("got the error %v, want one with %q", err, row.err)
			case string(got) != row.want:
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestParseDiffRejects(t *testing.T) {
	const files = "--- a/p.go\n+++ b/p.go\n"
	for _, row := range []struct{ name, diff, err string }{
		{"a hunk without a file", "@@ -1 +1 @@\n-a\n+b\n", "no part of a diff"},
		{"a file of another name", "--- a/p.go\n+++ b/q.go\n", "is not followed by"},
		{"a new file", "--- /dev/null\n+++ b/p.go\n", "no part of a diff"},
		{"a hunk that ends too early", files + "@@ -1,3 +1,2 @@\n-a\n b\n", "ends too early"},
		{"a hunk with more lines than it says", files + "@@ -1 +1 @@\n-a\n-b\n+c\n", "more lines"},
		{"a line of another kind", files + "@@ -1 +1 @@\n*a\n", "begins with none"},
		{"a hunk without lines of the file", files + "@@ 1 @@\n-a\n", "no head of a hunk"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if hunks, err := sabotage.ParseDiff(row.diff); err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("got %v and the error %v, want one with %q", hunks, err, row.err)
			}
		})
	}
}
