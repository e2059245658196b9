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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// served is a server of a script.
type served struct {
	command *exec.Cmd
	ended   chan error
	errors  strings.Builder
}

// serveCommands are the commands of scripts for servers.
//
//	serve ARGS...                 starts one, and waits until it listens; $URL is its address, $HOST
//	                              the same without the scheme;
//	                              with $FILES it may open that many files
//	crowd N PATH TEXT             opens N connections that send a POST whose body begins with TEXT, and goes on
//	killworkers                   kills its workers, and waits until others are ready
//	http METHOD PATH [FILE [K:V]] asks it, from the address FROM; standard output is the status, a newline and the body
//	certificate CERT KEY          makes files for TLS on 127.0.0.1
//	endserver                     interrupts it and waits; its standard error is that of the script then
//
// The package testscript has a command stop, which ends a script without a failure.
func serveCommands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	var running servers
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"serve": func(ts *testscript.TestScript, _ bool, args []string) {
			s := &served{command: exec.Command("hypertoken", append([]string{"serve"}, args...)...),
				ended: make(chan error, 1)}
			program, err := exec.LookPath("hypertoken")
			ts.Check(err)
			s.command.Path = program
			if files := ts.Getenv("FILES"); files != "" {
				s.command = exec.Command("sh", append([]string{"-c", `ulimit -n "$1"; shift; exec "$@"`, "sh", files, program, "serve"}, args...)...)
			}
			s.command.Dir, s.command.Stderr = ts.MkAbs("."), &s.errors
			s.command.Env = append(os.Environ(), "XDG_CACHE_HOME="+ts.Getenv("XDG_CACHE_HOME"),
				tokenVariable+"="+ts.Getenv(tokenVariable))
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
			running.add(ts, s)
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
			client := http.DefaultClient
			if from := ts.Getenv("FROM"); from != "" {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
				client = &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext,
					DisableKeepAlives: true}}
			}
			w, err := client.Do(r)
			ts.Check(err)
			defer func() { _ = w.Body.Close() }()
			fmt.Fprintln(ts.Stdout(), w.StatusCode)
			_, err = io.Copy(ts.Stdout(), w.Body)
			ts.Check(err)
		},
		"crowd": func(ts *testscript.TestScript, _ bool, args []string) {
			n, err := strconv.Atoi(args[0])
			ts.Check(err)
			for range n {
				c, err := net.Dial("tcp", strings.TrimPrefix(ts.Getenv("HOST"), "//"))
				ts.Check(err)
				ts.Defer(func() { _ = c.Close() })
				// The server may have closed it already.
				_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n%s\n",
					args[1], args[2])
			}
		},
		"killworkers": func(ts *testscript.TestScript, _ bool, _ []string) {
			pid := strconv.Itoa(running.of(ts).command.Process.Pid)
			// A child belongs to the thread that started it.
			var old []string
			threads, err := os.ReadDir("/proc/" + pid + "/task")
			ts.Check(err)
			for _, thread := range threads {
				b, _ := os.ReadFile("/proc/" + pid + "/task/" + thread.Name() + "/children")
				old = append(old, strings.Fields(string(b))...)
			}
			killed := 0
			for _, child := range old {
				n, err := strconv.Atoi(child)
				ts.Check(err)
				if p, err := os.FindProcess(n); err == nil && p.Kill() == nil {
					killed++
				}
			}
			if killed == 0 {
				ts.Fatalf("there is no worker")
			}
			until := time.Now().Add(time.Minute)
			scrapes := time.NewTicker(20 * time.Millisecond)
			defer scrapes.Stop()
			for ; ; <-scrapes.C {
				w, err := http.Get(ts.Getenv("URL") + "/metrics")
				ts.Check(err)
				b, err := io.ReadAll(w.Body)
				ts.Check(err)
				_ = w.Body.Close()
				if strings.Contains(string(b), `hypertoken_worker_exits_total{reason="died"} `+strconv.Itoa(killed)) &&
					strings.Contains(string(b), `hypertoken_workers{state="ready"} `+strconv.Itoa(killed)) {
					return
				}
				if time.Now().After(until) {
					ts.Fatalf("no worker is ready again: %s", grep(string(b), "hypertoken_worker"))
				}
			}
		},
		"certificate": func(ts *testscript.TestScript, _ bool, args []string) {
			public, private, err := ed25519.GenerateKey(nil)
			ts.Check(err)
			template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
				IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
			cert, err := x509.CreateCertificate(nil, template, template, public, private)
			ts.Check(err)
			key, err := x509.MarshalPKCS8PrivateKey(private)
			ts.Check(err)
			for name, block := range map[string]*pem.Block{args[0]: {Type: "CERTIFICATE", Bytes: cert},
				args[1]: {Type: "PRIVATE KEY", Bytes: key}} {
				ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(block), 0o600))
			}
		},
		// crash kills the server, as a lack of memory may.
		"crash": func(ts *testscript.TestScript, _ bool, _ []string) {
			s := running.of(ts)
			http.DefaultClient.CloseIdleConnections()
			ts.Check(s.command.Process.Kill())
			<-s.ended
		},
		"endserver": func(ts *testscript.TestScript, _ bool, _ []string) {
			s := running.of(ts)
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

// servers are the servers of scripts, the newest of each. Scripts run at the same time.
type servers struct{ byScript sync.Map }

func (s *servers) add(ts *testscript.TestScript, server *served) { s.byScript.Store(ts, server) }

func (s *servers) of(ts *testscript.TestScript) *served {
	server, isThere := s.byScript.Load(ts)
	if !isThere {
		ts.Fatalf("no server runs")
	}
	return server.(*served)
}

// grep returns the lines that hold a text.
func grep(text, part string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) && !strings.HasPrefix(line, "#") {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}
