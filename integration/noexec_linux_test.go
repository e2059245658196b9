package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hypertoken/host"
)

func init() { roles["interpreted"] = interpretedApplication }

// forbidExecutable has the kernel refuse memory that becomes executable, in this process and those that it starts. It
// returns false if the kernel can't (before Linux 6.3).
func forbidExecutable() bool {
	const setMDWE, refuseGain = 65, 1
	return unix.Prctl(setMDWE, refuseGain, 0, 0, 0) == nil
}

// interpretedApplication plays a game where no memory can be made executable: on a worker, then in
// process, where it also ends an action that would run without end.
func interpretedApplication() int {
	ctx := context.Background()
	if !forbidExecutable() {
		fmt.Println(`{"What":"skipped"}`)
		return 0
	}
	a := newApp(host.Options{Workers: 1})
	e := a.open("e", deck(52))
	results := must(playTurns(ctx, e, 0, 30))
	a.say(said{What: "worker", Results: results, Digest: must(e.Digest(ctx)).String()})
	if err := a.host.Shutdown(ctx); err != nil {
		return 1
	}
	a = newApp(host.Options{InProcess: true})
	e = a.open("e", deck(52))
	results = must(playTurns(ctx, e, 0, 30))
	a.say(said{What: "in_process", Results: results, Digest: must(e.Digest(ctx)).String()})
	until, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := e.Dispatch(until, "test:spin", nil); !errors.Is(err, host.ErrTimeout) {
		a.say(said{What: "interrupted", Error: fmt.Sprint(err)})
		return 1
	}
	a.say(said{What: "interrupted", Digest: must(e.Digest(ctx)).String()})
	if err := a.host.Shutdown(ctx); err != nil {
		return 1
	}
	return 0
}

// Where no memory can be made executable, cores are interpreted, with the same results. The host says so once.
func TestNoExecutableMemory(t *testing.T) {
	want, digest := undisturbedTurns(t, 30)
	c, _, out := application(t, home(t), "interpreted")
	if !out.Scan() {
		t.Fatalf("the application has ended: %v", out.Err())
	}
	var s said
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.What == "skipped" {
		_ = c.Wait()
		t.Skip("this kernel can't forbid executable memory (PR_SET_MDWE)")
	}
	for _, place := range []host.Place{host.PlaceWorker, host.PlaceInProcess} {
		if place == host.PlaceInProcess {
			s = hear(t, out, place.String())
		}
		if s.What != place.String() || s.Digest != digest || !slices.Equal(s.Results, want) {
			t.Errorf("%v: %+v, want the digest %s and the results\n%v", place, s, digest, want)
		}
		if s.Stats.Engines[place] != 1 {
			t.Errorf("%v: the engines are %v", place, s.Stats.Engines)
		}
		said := slices.DeleteFunc(s.Logged,
			func(line string) bool { return !strings.Contains(line, "some 20 times slower") })
		if len(said) != 1 || !strings.Contains(said[0], "MemoryDenyWriteExecute") {
			t.Errorf("%v: it is said as %q, want once with the remedy", place, said)
		}
	}
	if s := hear(t, out, "interrupted"); s.Error != "" || s.Digest != digest {
		t.Errorf("an action without end: %+v", s)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}
