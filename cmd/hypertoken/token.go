package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// tokenVariable is the environment variable that has the token if no file is named.
const tokenVariable = "HYPERTOKEN_TOKEN"

// maxSecretFile bounds a file with a token, or with certificates, in bytes.
const maxSecretFile = 1 << 20

// readToken returns the token in the first line of a file. If file is empty, it returns the token
// of the environment, or "" if there is none.
func readToken(file string) (string, error) {
	token, where := os.Getenv(tokenVariable), tokenVariable
	if file != "" {
		b, err := readBounded(file)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		// Some editors begin a file with a byte order mark.
		token, _, _ = strings.Cut(strings.TrimPrefix(string(b), "\ufeff"), "\n")
		if token, where = strings.TrimSpace(token), "--token-file "+file; token == "" {
			return "", fmt.Errorf("%s: its first line has no token; 'openssl rand -hex 16' makes one", where)
		}
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("%s: a token is one word of ASCII characters, and it has %q", where, r)
		}
	}
	return token, nil
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err == nil && len(b) > maxSecretFile {
		err = fmt.Errorf("%s is longer than %d bytes", file, maxSecretFile)
	}
	return b, err
}
