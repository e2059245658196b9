package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"hypertoken/internal/sabotage"
)

// limit is the time that a suite gets. One that hangs has noticed, but takes all of it.
const limit = 30 * time.Second

// trial is a build of tests, with a breach or as they are, and what its suites said.
type trial struct {
	*sabotage.Breach // nil if nothing is broken
	suites           []sabotage.Suite
	built            time.Duration
	err              error // it could not be built; there are no outcomes then
	outcomes         []outcome
}

type outcome struct {
	noticed bool
	tries   int
	took    time.Duration // the last try
	said    string
}

// runAll runs the tests with nothing broken, then with each of the breaches.
func runAll(breaches []*sabotage.Breach) error {
	dir, err := os.MkdirTemp("", "sabotage")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	control := &trial{}
	var trials []*trial
	total := 0
	for _, b := range breaches {
		// All patches are tried first: none has to wait for the trials of others to be told that
		// it does not apply.
		if _, err1 := b.Apply("."); err1 != nil {
			err = errors.Join(err, err1)
			continue
		}
		suites, err1 := b.Suites()
		err = errors.Join(err, err1)
		trials = append(trials, &trial{Breach: b, suites: suites})
		total += len(suites)
		for _, s := range suites {
			if !slices.Contains(control.suites, s) {
				control.suites = append(control.suites, s)
			}
		}
	}
	if err != nil {
		return err
	}
	fmt.Printf("%d breaches, with %d tests that have to notice one. First the %d tests with nothing broken:\n",
		len(breaches), total, len(control.suites))
	var missed []string // breaches, with the tests that have not noticed them
	control.run(filepath.Join(dir, "control"))
	if control.err != nil {
		return control.err
	}
	isFailing := false
	for k, s := range control.suites {
		o, verdict := control.outcomes[k], "passes"
		if o.noticed {
			verdict, isFailing = "FAILS: "+o.said, true
		}
		fmt.Printf("  %5.1fs  %s %s  %s\n", o.took.Seconds(), s.Folder, s.Tests, verdict)
	}
	if isFailing {
		return errors.New("a test that fails with nothing broken proves nothing")
	}
	guarantee := 0
	for t := range each(dir, trials) {
		if guarantee != t.Guarantee {
			guarantee = t.Guarantee
			fmt.Printf("Guarantee %d: %s\n", guarantee, sabotage.Guarantees[guarantee])
		}
		fmt.Printf("  %-22s %s (built in %.1fs)\n", t.Name, t.What, t.built.Seconds())
		if t.err != nil {
			fmt.Printf("          NOT TRIED: %v\n", t.err)
			for _, s := range t.suites {
				missed = append(missed, t.Name+" by "+s.Folder+" "+s.Tests)
			}
		}
		for k, o := range t.outcomes {
			s := t.suites[k]
			if !o.noticed {
				o.said = "NOT NOTICED by " + s.Tests
				missed = append(missed, t.Name+" by "+s.Folder+" "+s.Tests)
			}
			if o.tries > 1 {
				o.said += fmt.Sprintf(" (%d tries)", o.tries)
			}
			fmt.Printf("  %5.1fs    %s: %s\n", o.took.Seconds(), s.Folder, o.said)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("%d of %d tests did not notice a breach: %s", len(missed), total, strings.Join(missed, ", "))
	}
	fmt.Printf("each of the %d breaches was noticed\n", len(breaches))
	return nil
}

// each runs trials, as many at a time as there are processors, and hands them over in their order.
func each(dir string, list []*trial) func(func(*trial) bool) {
	return func(yield func(*trial) bool) {
		var running sync.WaitGroup
		defer running.Wait()
		ended := make([]chan struct{}, len(list))
		slots := make(chan struct{}, runtime.GOMAXPROCS(0))
		for k := range list {
			ended[k] = make(chan struct{})
		}
		running.Go(func() {
			for k, t := range list {
				slots <- struct{}{}
				running.Go(func() {
					t.run(filepath.Join(dir, t.Name))
					<-slots
					close(ended[k])
				})
			}
		})
		for k, t := range list {
			<-ended[k]
			if !yield(t) {
				return
			}
		}
	}
}

// run builds the tests in the folder dir, which it makes and removes, and runs them one after the
// other.
func (t *trial) run(dir string) {
	defer func() { _ = os.RemoveAll(dir) }()
	began := time.Now()
	overlay, err := t.build(dir)
	t.built = time.Since(began)
	if err != nil {
		t.err = err
		return
	}
	env := os.Environ()
	if overlay != "" {
		// For tests that build programs. It is added to the flags that the user has, as a file of
		// `go env` may have.
		flags, err := exec.Command("go", "env", "GOFLAGS").Output()
		if err != nil {
			t.err = fmt.Errorf("go env GOFLAGS: %w", err)
			return
		}
		env = append(env, "GOFLAGS="+strings.TrimSpace(string(flags)+" '-overlay="+overlay+"'"))
	}
	for _, s := range t.suites {
		tries := 1
		o := runSuite(s, dir, env)
		for ; t.Breach != nil && !o.noticed && tries < s.Tries; tries++ {
			o = runSuite(s, dir, env)
		}
		o.tries = tries
		t.outcomes = append(t.outcomes, o)
	}
}

// build returns the path of the file for the go command's flag -overlay, if something is broken.
func (t *trial) build(dir string) (overlay string, err error) {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", err
	}
	// The programs are removed soon, and no debugger looks at them.
	args := []string{"test", "-c", "-ldflags=-w", "-o", dir + string(filepath.Separator)}
	if t.Breach != nil {
		if overlay, err = t.Overlay(".", dir); err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	var folders []string
	for _, s := range t.suites {
		if !slices.Contains(folders, s.Folder) {
			folders = append(folders, s.Folder)
		}
	}
	paths, err := sabotage.ImportPaths(".", folders)
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("go", append(args, paths...)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go test -c %s: %w\n%s", strings.Join(folders, " "), err, out)
	}
	return overlay, nil
}

func runSuite(s sabotage.Suite, dir string, env []string) (o outcome) {
	// A process that a breach leaves behind may hold the output, and outlive the test's own limit.
	ctx, cancel := context.WithTimeout(context.Background(), limit+10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(dir, filepath.Base(s.Folder)+".test"),
		append([]string{"-test.run=" + s.Tests, "-test.timeout=" + limit.String()}, strings.Fields(s.Args)...)...)
	c.Dir, c.Env, c.WaitDelay = s.Folder, env, time.Second
	began := time.Now()
	out, err := c.CombinedOutput()
	o.took = time.Since(began)
	if err == nil && bytes.Contains(out, []byte("testing: warning: no tests to run")) {
		err = errors.New("there is no such test: correct internal/sabotage/suites.go")
	}
	if o.noticed = err != nil; o.noticed {
		o.said = reason(out, err)
	}
	return o
}

var (
	failed = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	line   = regexp.MustCompile(`(?m)^ *\w+_test\.go:\d+: .*`)
)

// reason finds in a test's output what the test has noticed.
func reason(out []byte, err error) string {
	said := err.Error()
	if m := failed.FindSubmatch(out); m != nil {
		said = string(m[1])
	}
	if bytes.Contains(out, []byte("panic: test timed out")) {
		return "it hangs"
	}
	var more []byte
	if all := line.FindAll(out, -1); all != nil {
		more = all[len(all)-1] // the lines before it are often not about what went wrong
	} else {
		more, _, _ = bytes.Cut(bytes.TrimSpace(bytes.TrimPrefix(out, []byte("PASS\n"))), []byte("\n"))
	}
	const most = 160
	if more = bytes.TrimSpace(more); len(more) > most {
		more = append(more[:most:most], "..."...)
	}
	return said + ": " + cmp.Or(string(more), "it says nothing more")
}
