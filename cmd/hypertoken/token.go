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
		var err error
		if token, err = readSecret("--token-file", "token", file); err != nil {
			return "", err
		}
		where = "--token-file " + file
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("%s: a token is one word of ASCII characters, and it has %q", where, r)
		}
	}
	return token, nil
}

// readSecret returns the first line of the file that a flag names. what names the secret.
func readSecret(flag, what, file string) (string, error) {
	b, err := readBounded(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	// Some editors begin a file with a byte order mark.
	secret, _, _ := strings.Cut(strings.TrimPrefix(string(b), "\ufeff"), "\n")
	if secret = strings.TrimSpace(secret); secret == "" {
		return "", fmt.Errorf("%s %s: its first line has no %s; 'openssl rand -hex 16' makes one", flag, file, what)
	}
	return secret, nil
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
