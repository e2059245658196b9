// Command catch is the test of the tests: with each breach of a guarantee that internal/sabotage knows it runs the tests
// that have to notice, and fails where one does not. `make sabotage` runs it, from the root of the module.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"hypertoken/internal/sabotage"
)

// suite is some of the tests of a package.
type suite struct {
	folder string // of the package
	tests  string // -test.run
	args   string
}

var (
	simulation = suite{"host", "^TestSimulation$", "-events 200000"}
	// Real workers that are killed.
	kills    = suite{"host", "^TestKilledBetweenTwoFrames$", ""}
	batches  = suite{"host", "^TestBatches$/^on_workers$", ""}
	diverged = suite{"host", "^TestACoreThatDiffersOnReplayIsFoundOut$/^on_workers$", ""}
	lost     = suite{"host", "^TestAJournalThatHasLostAnEntryIsFoundOut$/^on_workers$", ""}
	moves    = suite{"host", "^TestAJournalMovesToAnotherCore$", ""}
	owners   = suite{"host", "^TestAJournalHasOneOwner$", ""}
	events   = suite{"host", "^TestEvents$", ""}
	conn     = suite{"ipc", "^TestConn", ""}
	start    = suite{"internal/process", "^TestWhatCannotBeStarted$/^no_program$", ""}
	hang     = suite{"integration", "^TestAHangPastItsDeadline$", ""}
	torture  = suite{"cmd/hypertoken/internal/torture", "^TestTorture$", "-torture 4s -seed 3"}
)

// catchers are the tests that have to notice, each of them.
var catchers = map[sabotage.Point][]suite{
	sabotage.AnswerBeforeAppend:   {simulation},
	sabotage.ReadBeforeAppend:     {simulation},
	sabotage.FailedAppendIsTaken:  {simulation},
	sabotage.RecordLeftOut:        {simulation, torture},
	sabotage.NoFence:              {simulation, torture},
	sabotage.WithdrawnIsJournaled: {simulation},
	sabotage.CommittedIsWithdrawn: {simulation},
	sabotage.AtomicIgnored:        {batches, torture},
	sabotage.RequeuedBehind:       {simulation},
	sabotage.NewestFirst:          {simulation, torture},
	sabotage.WindowOvertaken:      {simulation},
	sabotage.InFlightFails:        {simulation, kills, torture},
	sabotage.InFlightIsLost:       {simulation},
	sabotage.ReplaySkipsOne:       {simulation, kills, torture},
	sabotage.RunTwice:             {simulation},
	sabotage.PlacementReused:      {simulation},
	sabotage.RequestReused:        {conn},
	sabotage.LateAnswerCounts:     {simulation, torture},
	sabotage.SuspectsTogether:     {simulation},
	sabotage.DeathsUncounted:      {simulation},
	sabotage.OthersUncleared:      {simulation},
	sabotage.KillsMakeSuspects:    {simulation},
	sabotage.SuspectInProcess:     {simulation},
	sabotage.AloneCounts:          {simulation},
	sabotage.BatchUnsplit:         {simulation},
	sabotage.NoFallback:           {simulation},
	sabotage.NoReturn:             {simulation},
	sabotage.FallbackFromBase:     {simulation},
	sabotage.WorkerForgotten:      {hang},
	sabotage.GoroutineLeft:        {events},
	sabotage.DescriptorLeft:       {hang},
	sabotage.DirectoryLeft:        {start},
	sabotage.NoComparison:         {diverged},
	sabotage.FailedReplayIsTaken:  {lost},
	sabotage.SnapshotMisplaced:    {simulation, torture},
	sabotage.MigratedUnchecked:    {moves},
	sabotage.TriedForEver:         {simulation},
	sabotage.BrokenEndsWorker:     {simulation, diverged},
	sabotage.BrokenIsUnreadable:   {diverged},
	sabotage.ReopenDoesNothing:    {owners},
}

// limit is what a suite gets. One that hangs has noticed, but takes all of it.
const limit = 30 * time.Second

func main() {
	only := flag.String("run", "", "only the points that match the `regexp`")
	flag.Parse()
	if err := run(*only); err != nil {
		fmt.Fprintln(os.Stderr, "sabotage:", err)
		os.Exit(1)
	}
}

// trial is a suite that runs with a point on, or with none.
type trial struct {
	suite
	sabotage.Breach
	caught bool
	took   time.Duration
	said   string
}

func run(only string) error {
	matches, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	var controls, trials []*trial
	seen := map[suite]bool{}
	for _, b := range sabotage.Breaches {
		if !matches.MatchString(string(b.Point)) {
			continue
		}
		if len(catchers[b.Point]) == 0 {
			return fmt.Errorf("no test has to notice %s: name one in catchers", b.Point)
		}
		for _, s := range catchers[b.Point] {
			if !seen[s] {
				controls = append(controls, &trial{suite: s})
			}
			seen[s] = true
			trials = append(trials, &trial{suite: s, Breach: b})
		}
	}
	dir, err := os.MkdirTemp("", "sabotage")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := build(dir, seen); err != nil {
		return err
	}
	fmt.Printf("%d breaches, tests that have to notice: %d. First the tests with nothing broken:\n", len(trials), len(controls))
	missed := 0
	for t := range each(dir, controls) {
		verdict := "passes"
		if t.caught {
			verdict = "FAILS: " + t.said
			missed++
		}
		fmt.Printf("  %5.1fs  %s %s  %s\n", t.took.Seconds(), t.folder, t.tests, verdict)
	}
	if missed > 0 {
		return errors.New("what fails with nothing broken proves nothing")
	}
	guarantee := 0
	for t := range each(dir, trials) {
		if guarantee != t.Guarantee {
			guarantee = t.Guarantee
			fmt.Printf("Guarantee %d: %s\n", guarantee, guarantees[guarantee])
		}
		if !t.caught {
			t.said = "NOT NOTICED by " + t.folder + " " + t.tests
			missed++
		}
		fmt.Printf("  %5.1fs  %-22s %s\n          %s: %s\n", t.took.Seconds(), t.Point, t.What, t.folder, t.said)
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d breaches were not noticed", missed, len(trials))
	}
	fmt.Printf("each of the %d breaches was noticed\n", len(trials))
	return nil
}

var guarantees = [...]string{1: "success is durable against workers", "an error means no effect", "order", "crashes are absorbed",
	"poison is contained", "the application keeps working", "nothing leaks", "recovery is checked", "a broken engine is alone"}

func build(dir string, suites map[suite]bool) error {
	args := []string{"test", "-c", "-tags", "sabotage", "-o", dir + string(filepath.Separator)}
	folders := map[string]bool{}
	for s := range suites {
		if !folders[s.folder] {
			args = append(args, "./"+s.folder)
		}
		folders[s.folder] = true
	}
	c := exec.Command("go", args...)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
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
					t.run(dir)
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

func (t *trial) run(dir string) {
	// A process that a breach leaves behind may hold the output, and outlive the test's own limit.
	ctx, cancel := context.WithTimeout(context.Background(), limit+10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(dir, filepath.Base(t.folder)+".test"),
		append([]string{"-test.run=" + t.tests, "-test.timeout=" + limit.String()}, strings.Fields(t.args)...)...)
	c.Dir, c.WaitDelay = t.folder, time.Second
	c.Env = append(os.Environ(), sabotage.Variable+"="+string(t.Point))
	began := time.Now()
	out, err := c.CombinedOutput()
	t.took = time.Since(began)
	if t.caught = err != nil; t.caught {
		t.said = reason(out, err)
	}
}

var (
	failed = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	line   = regexp.MustCompile(`(?m)^ *\w+_test\.go:\d+: .*`)
)

// reason finds in a test's output what it has noticed.
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
		more = all[len(all)-1] // what comes before is often what a test only tells
	} else {
		more, _, _ = bytes.Cut(bytes.TrimSpace(bytes.TrimPrefix(out, []byte("PASS\n"))), []byte("\n"))
	}
	const most = 160
	if more = bytes.TrimSpace(more); len(more) > most {
		more = append(more[:most:most], "..."...)
	}
	return said + ": " + string(more)
}
