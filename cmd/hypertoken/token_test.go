package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadToken(t *testing.T) {
	for name, c := range map[string]struct{ environment, file, want, wrong string }{
		"a file":                     {"", "secret\n", "secret", ""},
		"without an end":             {"", "secret", "secret", ""},
		"with spaces and a CR":       {"", "  secret \r\nmore\n", "secret", ""},
		"a byte order mark":          {"", "\ufeffsecret\r\n", "secret", ""},
		"a file before the variable": {"other", "secret\n", "secret", ""},
		"an empty first line":        {"other", "\nsecret\n", "", "its first line has no token"},
		"two words":                  {"", "two words\n", "", `it has ' '`},
		"not ASCII":                  {"", "geheimö\n", "", `it has 'ö'`},
		"as long as may be":          {"", "secret\n" + strings.Repeat("x", maxSecretFile-7), "secret", ""},
		"longer": {"", "secret\n" + strings.Repeat("x", maxSecretFile-6), "",
			"is longer than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tokenVariable, c.environment)
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readToken(file)
			if got != c.want || (err == nil) != (c.wrong == "") || err != nil &&
				!strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%q and %v, want %q and %q", got, err, c.want, c.wrong)
			}
		})
	}
	t.Setenv(tokenVariable, "secret")
	if got, err := readToken(""); got != "secret" || err != nil {
		t.Errorf("the variable's: %q and %v", got, err)
	}
	t.Setenv(tokenVariable, "two words")
	if got, err := readToken(""); err == nil || !strings.Contains(err.Error(), tokenVariable) {
		t.Errorf("the variable's: %q and %v, want an error that names it", got, err)
	}
	if _, err := readToken(filepath.Join(t.TempDir(), "missing")); err == nil || !strings.Contains(err.Error(),
		"--token-file") {
		t.Errorf("a missing file: %v, want an error that names the flag", err)
	}
}
