package require

import (
	"os"
	"testing"
)

// deepVariable is the environment variable that makes a run of the tests deep: `make test-deep`
// sets it to 1.
const deepVariable = "HYPERTOKEN_DEEP"

// IsDeep reports whether the tests run deep. A run that is not deep has to take less than two
// minutes on two cores, so it draws fewer random cases and takes a sample of long lists. A deep
// run has all of them.
func IsDeep() bool { return os.Getenv(deepVariable) != "" }

// Deep skips a test unless the tests run deep. A kind of test of which no quick version stays in a
// run that is not deep is for tests of tools that most machines lack.
func Deep(t testing.TB) {
	t.Helper()
	if !IsDeep() {
		t.Skip("`make test-deep` runs it")
	}
}

// Rounds returns how much a test does of something: deep if the tests run deep, else quick.
func Rounds[N any](quick, deep N) N {
	if IsDeep() {
		return deep
	}
	return quick
}

// Sample returns all if the tests run deep, else the first element and each step-th after it.
func Sample[E any](step int, all []E) []E {
	if IsDeep() {
		return all
	}
	var some []E
	for k := 0; k < len(all); k += step {
		some = append(some, all[k])
	}
	return some
}

// IsRaced reports whether the tests are built with the race detector, which takes about ten times
// the time and the memory.
func IsRaced() bool { return isRaced }

// Unraced skips a test if the race detector takes more time or memory than the test allows. `make
// test-deep` runs such tests a second time, without the detector: they are listed as UNRACED in
// the Makefile.
func Unraced(t testing.TB) {
	t.Helper()
	if isRaced {
		t.Skip("the race detector takes more than it allows")
	}
}
