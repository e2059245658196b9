package disk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// playDir is the environment variable that makes this program play on a directory until it is
// killed.
const playDir = "HYPERTOKEN_DISK_PLAY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(playDir); dir != "" {
		if err := playUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if dir := os.Getenv(upgradeDir); dir != "" {
		if err := upgradeAloud(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const killedPlayers = 8

// playUntilKilled appends to the engines of a directory, from where they are. Before it asks for
// an append it prints what it tries, and afterwards what was acknowledged.
func playUntilKilled(dir string) error {
	o := Options{memTable: 128 << 10}
	if os.Getenv("HYPERTOKEN_DISK_SYNC") == "interval" {
		o.Sync = SyncInterval
	}
	s, err := Open(dir, o)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(what, name string, at progress) {
		mu.Lock()
		fmt.Println(what, name, at.newest, at.keys, at.base)
		mu.Unlock()
	}
	var wg sync.WaitGroup
	for k := range killedPlayers {
		p := newPlayer(k, uint64(os.Getpid()))
		p.largest = 2 * pieceSize
		p.onTry = func(at progress) { say("try", p.name, at) }
		wg.Go(func() {
			if err := resume(caller{s}, p); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			for {
				if err := p.step(caller{s}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				say("ack", p.name, p.acknowledged)
			}
		})
	}
	wg.Wait()
	return nil
}

// resume takes an engine over where it is, and creates it if it is not there.
func resume(s caller, p *player) error {
	stored, err := s.load(p.name, p.owner)
	if err != nil {
		return err
	}
	if stored == nil {
		return p.create(s)
	}
	p.acknowledged = progress{stored.Sequence + stored.Count, stored.NewestKeyNumber(), stored.Sequence}
	if stored.IsMarker {
		p.history.markers = map[uint64]bool{stored.Sequence: true}
	}
	p.recent = append(append(p.recent, stored.Keys...), stored.Recent...)
	return checkStored(stored)
}

// A process that is killed in the middle of appends loses nothing that was acknowledged, also if
// the logs are synced by turns.
func TestSIGKILL(t *testing.T) {
	t.Parallel()
	for _, sync := range []string{"always", "interval"} {
		t.Run(sync, func(t *testing.T) {
			t.Parallel()
			killOften(t, sync)
		})
	}
}

func killOften(t *testing.T, sync string) {
	dir := t.TempDir()
	acknowledged, tried := map[string]progress{}, map[string]progress{}
	for k := range deep(5, 100) {
		playAndKill(t, dir, sync, 50+150*(k%7), acknowledged, tried)
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for n := range killedPlayers {
			p := newPlayer(n, 0)
			at, isCreated := acknowledged[p.name]
			p.verify(t, s, at, tried[p.name], isCreated)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// playAndKill starts a process that plays on the directory, and kills it once it has said that
// many lines. It notes all that the process has said.
func playAndKill(t *testing.T, dir, sync string, lines int, acknowledged, tried map[string]progress) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program)
	c.Env = append(os.Environ(), playDir+"="+dir, "HYPERTOKEN_DISK_SYNC="+sync)
	var complaint strings.Builder
	c.Stderr = &complaint
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	said := 0
	for scanner := bufio.NewScanner(out); scanner.Scan(); said++ {
		var what, name string
		var at progress
		if _, err := fmt.Sscan(scanner.Text(), &what, &name, &at.newest, &at.keys, &at.base); err != nil {
			continue // the last line is cut off
		}
		if what == "ack" {
			acknowledged[name] = at
		} else {
			tried[name] = at
		}
		if said == lines {
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = c.Wait()
	if said < lines {
		t.Fatalf("the process has ended by itself: %s", &complaint)
	}
}

// A second process is told at once who has the directory.
func TestADirectoryIsOpenOnce(t *testing.T) {
	dir := t.TempDir()
	openAt(t, dir, Options{})
	holder := fmt.Sprint("PID ", os.Getpid())
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), holder) {
		t.Errorf("in this process: %v", err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program)
	c.Env = append(os.Environ(), playDir+"="+dir)
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), holder) {
		t.Errorf("in another process: %v, %s", err, out)
	}
}
