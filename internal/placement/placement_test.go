package placement

import (
	"slices"
	"testing"
	"time"
)

// Each row is a snapshot of the pool, what an engine asks for, and what it gets.
func TestDecide(t *testing.T) {
	able := func(workers ...Worker) Pool { return Pool{Workers: workers, IsAble: true} }
	with := func(reserved Worker, workers ...Worker) Pool {
		return Pool{Workers: workers, Reserved: reserved, IsAble: true}
	}
	wait := Decision{Verdict: Wait}
	suspect := Ask{IsAlone: true}
	owning := Ask{IsAlone: true, Reserved: 9}
	for _, c := range []struct {
		name  string
		pool  Pool
		rules Rules
		ask   Ask
		want  Decision
	}{
		{"a worker that is free", able(Worker{Number: 1, Pending: 2}, Worker{Number: 2}), Rules{}, Ask{},
			Decision{OnWorker, 2}},
		{"workers that are loaded alike: the fewest engines",
			able(Worker{Number: 1, Pending: 1, Engines: 2}, Worker{Number: 2, Pending: 1, Engines: 1}), Rules{}, Ask{},
			Decision{OnWorker, 2}},
		{"workers that are alike: the first", able(Worker{Number: 4}, Worker{Number: 3}), Rules{}, Ask{},
			Decision{OnWorker, 4}},
		{"more workers than cores", able(Worker{Number: 1, Pending: 7, Engines: 1}, Worker{Number: 2}),
			Rules{Cores: 1}, Ask{}, Decision{OnWorker, 1}},
		{"a worker is on its way", able(), Rules{}, Ask{}, wait},
		{"the only worker is reserved", with(Worker{Number: 9}), Rules{}, Ask{}, wait},
		{"no worker can run", Pool{}, Rules{}, Ask{}, Decision{Verdict: InProcess}},
		{"no worker can run, and no fallback", Pool{}, Rules{NoFallback: true}, Ask{}, Decision{Verdict: NoWorker}},
		{"a host without workers", Pool{}, Rules{InProcess: true}, Ask{}, Decision{Verdict: InProcess}},

		{"a suspect of a host without workers", Pool{}, Rules{InProcess: true}, suspect, Decision{Verdict: InProcess}},
		{"a suspect, a free worker: it is reserved first", able(Worker{Number: 1}), Rules{}, suspect,
			Decision{Reserve, 1}},
		{"a suspect, busy workers: the least loaded is reserved",
			able(Worker{Number: 1, Pending: 5}, Worker{Number: 2, Pending: 3}), Rules{}, suspect, Decision{Reserve, 2}},
		{"a suspect may have any worker, whatever the cores",
			able(Worker{Number: 1, Pending: 5, Engines: 1}, Worker{Number: 2, IsLaden: true}), Rules{Cores: 1},
			suspect, Decision{Reserve, 2}},
		{"a suspect, a worker reserved for another", with(Worker{Number: 9}, Worker{Number: 1}), Rules{},
			suspect, wait},
		{"a suspect whose worker has answered", with(Worker{Number: 9}, Worker{Number: 1}), Rules{},
			owning, Decision{Alone, 9}},
		{"a suspect whose worker has answered, though it has engines", with(Worker{Number: 9, Engines: 3}), Rules{},
			owning, Decision{Alone, 9}},
		{"a suspect whose worker owes answers", with(Worker{Number: 9, Pending: 4}, Worker{Number: 1, Pending: 1}),
			Rules{}, owning, wait},
		{"a suspect whose worker owes answers, and another is free",
			with(Worker{Number: 9, Pending: 4}, Worker{Number: 1, Pending: 1}, Worker{Number: 2}),
			Rules{}, owning, Decision{Reserve, 2}},
		{"a suspect whose worker has died", able(Worker{Number: 1, Pending: 1}), Rules{}, owning, Decision{Reserve, 1}},
		{"a suspect whose worker has died, and another has one", with(Worker{Number: 8}), Rules{}, owning,
			wait},
		{"a suspect, a worker on its way", able(), Rules{SuspectWait: time.Second}, Ask{IsAlone: true, NoneSince: 1}, wait},
		{"a suspect, no worker can run", Pool{}, Rules{SuspectWait: time.Second}, suspect, Decision{Verdict: Probe}},
		{"a suspect that has waited for a moment", Pool{}, Rules{SuspectWait: time.Second},
			Ask{IsAlone: true, NoneSince: time.Minute - time.Second + 1}, wait},
		{"a suspect that has waited long enough", Pool{}, Rules{SuspectWait: time.Second},
			Ask{IsAlone: true, NoneSince: time.Minute - time.Second}, Decision{Verdict: Forsake}},
		{"a suspect that has waited, and no fallback", Pool{}, Rules{SuspectWait: time.Second, NoFallback: true},
			Ask{IsAlone: true, NoneSince: 1}, Decision{Verdict: Forsake}},
	} {
		if c.rules.Cores == 0 {
			c.rules.Cores = 8
		}
		if got := Decide(&c.pool, &c.rules, c.ask, time.Minute); got != c.want {
			t.Errorf("%s: %v %d, want %v %d", c.name, got.Verdict, got.Worker, c.want.Verdict, c.want.Worker)
		}
	}
}

// No more workers get engines than there are cores, unless those run long actions or are half
// full.
func TestEnginesAreSpreadOverCores(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(w []Worker)
		want []int
	}{
		{"at rest", func([]Worker) {}, []int{1, 2}},
		{"the first is laden", func(w []Worker) { w[0].IsLaden = true }, []int{2, 3}},
		{"the second is laden", func(w []Worker) { w[1].IsLaden = true }, []int{1, 3}},
		{"the third was first to get an engine", func(w []Worker) { w[2].Engines = 1 }, []int{3, 1}},
		{"all have some", func(w []Worker) { all(w, func(w *Worker) { w.Engines = 1 }) }, []int{1, 2}},
		{"all but one are laden", func(w []Worker) { w[0].IsLaden, w[1].IsLaden, w[3].IsLaden = true, true, true }, []int{3}},
		{"all are laden", func(w []Worker) { all(w, func(w *Worker) { w.IsLaden = true }) }, []int{1, 2, 3, 4}},
	} {
		workers := []Worker{{Number: 1}, {Number: 2}, {Number: 3}, {Number: 4}}
		c.make(workers)
		var got []int
		for _, w := range mayTake(workers, 2) {
			got = append(got, w.Number)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v may take engines, want %v", c.name, got, c.want)
		}
	}
}

func all(workers []Worker, change func(*Worker)) {
	for k := range workers {
		change(&workers[k])
	}
}

// Every verdict has a name of its own.
func TestVerdictsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for v := Wait; v <= Forsake; v++ {
		if name := v.String(); name == "" || seen[name] {
			t.Errorf("the verdict %d is called %q", v, name)
		}
		seen[v.String()] = true
	}
}
