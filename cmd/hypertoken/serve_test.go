package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// served is a server of a script.
type served struct {
	command *exec.Cmd
	ended   chan error
	errors  strings.Builder
}

// serveCommands are what scripts do with servers.
//
//	serve ARGS...                 starts one, and waits until it listens; $URL is where, $HOST the same without its scheme
//	http METHOD PATH [FILE [K:V]] asks it; standard output is the status, a newline and the body
//	certificate CERT KEY          makes files for TLS on 127.0.0.1
//	stop                          interrupts it and waits; its standard error is that of the script then
func serveCommands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	running := map[*testscript.TestScript]*served{}
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"serve": func(ts *testscript.TestScript, _ bool, args []string) {
			s := &served{command: exec.Command("hypertoken", append([]string{"serve"}, args...)...), ended: make(chan error, 1)}
			program, err := exec.LookPath("hypertoken")
			ts.Check(err)
			s.command.Path = program
			s.command.Dir, s.command.Stderr = ts.MkAbs("."), &s.errors
			s.command.Env = append(os.Environ(), "XDG_CACHE_HOME="+ts.Getenv("XDG_CACHE_HOME"), tokenVariable+"="+ts.Getenv(tokenVariable))
			out, err := s.command.StdoutPipe()
			ts.Check(err)
			ts.Check(s.command.Start())
			ts.Defer(func() { _ = s.command.Process.Kill() })
			line, err := bufio.NewReader(out).ReadString('\n')
			url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
			if err != nil || !ok {
				_ = s.command.Wait()
				ts.Fatalf("it does not listen: %q, %v, %s", line, err, s.errors.String())
			}
			go func() { s.ended <- s.command.Wait() }()
			ts.Setenv("URL", url)
			ts.Setenv("HOST", strings.TrimPrefix(strings.TrimPrefix(url, "https:"), "http:"))
			running[ts] = s
		},
		"http": func(ts *testscript.TestScript, _ bool, args []string) {
			body := ""
			if len(args) > 2 {
				body = ts.ReadFile(args[2])
			}
			r, err := http.NewRequest(args[0], ts.Getenv("URL")+args[1], strings.NewReader(body))
			ts.Check(err)
			for _, header := range args[min(3, len(args)):] {
				key, value, _ := strings.Cut(header, ":")
				r.Header.Set(key, value)
			}
			w, err := http.DefaultClient.Do(r)
			ts.Check(err)
			defer func() { _ = w.Body.Close() }()
			fmt.Fprintln(ts.Stdout(), w.StatusCode)
			_, err = io.Copy(ts.Stdout(), w.Body)
			ts.Check(err)
		},
		"certificate": func(ts *testscript.TestScript, _ bool, args []string) {
			public, private, err := ed25519.GenerateKey(nil)
			ts.Check(err)
			template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
			cert, err := x509.CreateCertificate(nil, template, template, public, private)
			ts.Check(err)
			key, err := x509.MarshalPKCS8PrivateKey(private)
			ts.Check(err)
			for name, block := range map[string]*pem.Block{args[0]: {Type: "CERTIFICATE", Bytes: cert}, args[1]: {Type: "PRIVATE KEY", Bytes: key}} {
				ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(block), 0o600))
			}
		},
		"stop": func(ts *testscript.TestScript, _ bool, _ []string) {
			s := running[ts]
			delete(running, ts)
			http.DefaultClient.CloseIdleConnections()
			ts.Check(s.command.Process.Signal(os.Interrupt))
			select {
			case err := <-s.ended:
				ts.Check(err) // status 0
			case <-time.After(time.Minute):
				ts.Fatalf("it does not end")
			}
			_, _ = io.WriteString(ts.Stderr(), s.errors.String())
		},
	}
}
