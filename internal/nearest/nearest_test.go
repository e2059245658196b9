package nearest

import (
	"slices"
	"strings"
	"testing"
)

func TestTo(t *testing.T) {
	known := []string{"type", "payload", "now", "entropy", "key", "if_sequence", "want", "state", "batch"}
	for word, want := range map[string]string{
		"pyload": "payload", "tpye": "type", "ifSequence": "if_sequence", "IF-SEQUENCE": "if_sequence",
		"ifsequenz": "if_sequence",
		"Payload":   "payload", "stat": "state", "keys": "key", "wants": "want", "paylaod": "payload",
		"undo": "", "revert": "", "at": "", "x": "", "": "", "payloadpayload": "", "batch ": "batch",
		strings.Repeat("payload", 20): "",
	} {
		if got := To(word, known); got != want {
			t.Errorf("%q is nearest to %q, want %q", word, got, want)
		}
	}
	if got := To("ab1", []string{"abc", "abd"}); got != "abc" {
		t.Errorf("of two that are equally near, %q", got)
	}
	if got := To("a", nil); got != "" {
		t.Errorf("%q of none", got)
	}
}

// FuzzTo checks that a known word is nearest to itself, and that only known words are returned.
func FuzzTo(f *testing.F) {
	f.Add("type", "state")
	f.Add("_", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		known := []string{a, b}
		if got := To(a, known); len(a) <= maxWord && got != a || len(a) > maxWord && got != "" {
			t.Errorf("%q is nearest to %q", a, got)
		}
		if got := To(a, known[1:]); got != "" && !slices.Contains(known[1:], got) {
			t.Errorf("%q is nearest to %q", a, got)
		}
		if d, e := distance([]rune(a), []rune(b)), distance([]rune(b), []rune(a)); d != e {
			t.Errorf("%d one way, %d the other", d, e)
		}
	})
}
