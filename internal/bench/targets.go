package bench

// relation is what of a figure is held against a limit.
type relation string

const (
	// absolute is the figure itself.
	absolute relation = "figure"
	// over is the figure divided by its baseline.
	over relation = "figure/baseline"
	// under is the baseline divided by the figure: how many times the figure is below it.
	under relation = "baseline/figure"
)

// Target is what a figure is to come to.
type Target struct {
	ID   string `json:"id"`
	Text string `json:"text"`
	// Figure and Baseline are IDs of figures.
	Figure   string   `json:"figure"`
	Baseline string   `json:"baseline,omitempty"`
	Relation relation `json:"relation"`
	// AtLeast says that Limit is a least value, otherwise it is a greatest one, in the figure's unit or as a ratio.
	AtLeast bool    `json:"at_least"`
	Limit   float64 `json:"limit"`

	// Way is what stands in the way, told where the target is missed.
	Way string `json:"-"`
}

// Verdict is what has become of a target.
type Verdict string

const (
	Met         Verdict = "met"
	Missed      Verdict = "missed"
	NotMeasured Verdict = "not measured"
)

// Judged is a target with what it came to.
type Judged struct {
	Target
	Verdict Verdict `json:"verdict"`
	// Value is that of the figure, or the ratio, round by round; its median is held against the limit.
	Value *Spread `json:"value,omitempty"`
	// InTheWay is told where the target is missed.
	InTheWay string `json:"in_the_way,omitempty"`
}

const (
	million  = 1e6
	kibibyte = 1 << 10
	mebibyte = 1 << 20
	// millisecond is in the unit of latencies.
	millisecond = 1e3
)

func targets() []Target {
	atMost := func(id, text, figure string, limit float64) Target {
		return Target{ID: id, Text: text, Figure: figure, Relation: absolute, Limit: limit}
	}
	atLeast := func(id, text, figure string, limit float64) Target {
		return Target{ID: id, Text: text, Figure: figure, Relation: absolute, Limit: limit, AtLeast: true}
	}
	list := []Target{
		{ID: "1.pipe", Text: "a dispatch on a worker, p50: at most 3 times the bare pipe",
			Figure: drawWorker + ".p50", Baseline: pipe + ".p50", Relation: over, Limit: 3},
		{ID: "1.tail", Text: "its p95: at most 2 times its p50",
			Figure: drawWorker + ".p95", Baseline: drawWorker + ".p50", Relation: over, Limit: 2},
		{ID: "1.node", Text: "its p50: at least 10 times below Node's worker thread",
			Figure: drawWorker + ".p50", Baseline: nodePing + ".p50", Relation: under, Limit: 10, AtLeast: true},
		{ID: "1.netrpc", Text: "its p50: at least 20 times below go-plugin's net/rpc",
			Figure: drawWorker + ".p50", Baseline: netRPC + ".p50", Relation: under, Limit: 20, AtLeast: true},
		atMost("1.mix", "52 draws, a reset, a shuffle: mean at most 10 µs", mixWorker+".mean", 10),

		atLeast("2.million", "pipelined by one goroutine: a million actions a second", pipelined+".rate", million),
		{ID: "2.node", Text: "pipelined: at least 4 times Node's worker thread",
			Figure: pipelined + ".rate", Baseline: nodePipelined + ".rate", Relation: over, Limit: 4, AtLeast: true},
		{ID: "2.callers", Text: "from 64 goroutines on one engine: not less than from one",
			Figure: shared + ".rate", Baseline: pipelined + ".rate", Relation: over, Limit: 1, AtLeast: true},
		{ID: "2.engines", Text: "from 64 goroutines on 64 engines: not less than from one",
			Figure: many + ".rate", Baseline: pipelined + ".rate", Relation: over, Limit: 1, AtLeast: true},

		{ID: "3.bare", Text: "in process: at most 1.5 times the interruptible call of the core",
			Figure: decksInProcess + ".p50", Baseline: bareInterrupted + ".p50", Relation: over, Limit: 1.5},

		atMost("5.start", "start to the first answer, warm cache: at most 30 ms", "start.p50", 30*millisecond),
		atMost("5.kill", "SIGKILL to the next answer, p50: at most 30 ms", "kill.p50", 30*millisecond),
		atMost("5.spare", "the same with a spare worker: at most 5 ms", "kill_spare.p50", 5*millisecond),
		atLeast("5.replay", "replay: at least a million actions a second", "replay.rate", million),

		atMost("6.worker", "a worker with one engine: at most 16 MiB of its own (PSS)", workerMemory+".worker", 16*mebibyte),
		atMost("6.engine", "an idle engine of 52 tokens in its worker: at most 256 KiB", workerMemory+".engine", 256*kibibyte),
		atMost("6.out", "one that is taken out: at most 16 KiB", out+".engine", 16*kibibyte),
		atMost("6.many", "100,000 of those: at most 2 GiB", out+".hundred_thousand", 2*1024*mebibyte),
		atMost("6.answer", "a random one answers, p50: within 1 ms", out+".p50", 1*millisecond),

		{ID: "7.heavy", Text: "heavy actions, 2 workers: at least 1.8 times one",
			Figure: scaleName("heavy", 2) + ".rate", Baseline: scaleName("heavy", 1) + ".rate", Relation: over, Limit: 1.8, AtLeast: true},
		{ID: "7.light", Text: "light ones: no loss from more workers (0.95 times one)",
			Figure: "light.least_of_more", Baseline: scaleName("light", 1) + ".rate", Relation: over, Limit: 0.95, AtLeast: true},
		{ID: "7.scarce_heavy", Text: "heavy ones, 8 workers: within 10 % of the best",
			Figure: scaleName("heavy", 8) + ".rate", Baseline: "heavy.best", Relation: over, Limit: 0.9, AtLeast: true},
		{ID: "7.scarce_light", Text: "light ones, 8 workers: within 10 % of the best",
			Figure: scaleName("light", 8) + ".rate", Baseline: "light.best", Relation: over, Limit: 0.9, AtLeast: true},
		atMost("7.idle", "CPU with 1,000 idle engines: below 0.1 %", "idle.cpu", 0.1),

		{ID: "8.journal", Text: "journal and snapshots: at most 5 % of throughput",
			Figure: journaled + ".rate", Baseline: unjournaled + ".rate", Relation: over, Limit: 0.95, AtLeast: true},
		atMost("8.bounded", "memory of an engine: no growth with its actions (256 KiB)", "growth.growth", 256*kibibyte),
	}
	for k := range list {
		list[k].Way = ways[list[k].ID]
	}
	return list
}

// ways are what stands in the way of targets that are missed, as profiles on the 2-core machine show it.
var ways = map[string]string{
	"1.pipe": "the two writes and reads are most of what a bare pipe takes; beside them a profile shows the core (some 0.5 µs), the " +
		"engine's machine and journal (1.4 µs) and the worker's loop (0.6 µs), none of them with a hot spot. Where both sides share a core " +
		"for a while, each round costs two switches more",
	"1.netrpc": "between runs the bare pipe itself takes 1.5 or 2.9 µs on the 2-core machine, a dispatch 4.4 or 5.7, and net/rpc 98 to " +
		"108: the ratio is 19 to 22",
	"1.tail": "a thread that is woken is put beside the one that woke it, and until the kernel separates them each round costs two " +
		"switches of the core; the collector's threads of the host do the same now and then",
	"2.million": "the host's goroutines that send and that read take 1.7 µs of processor time for an action, the collector included, and the " +
		"worker 1 µs, of which the core is a third; they are three threads on two cores that wait for the engine's lock and for each " +
		"other's bursts, and so use 1.5 of them",
	"2.node": "Node moves a message of 32 bytes between two threads of one process, without a journal, a checksum or an action; an action " +
		"takes more than that message before it is sent",
	"2.callers": "each call parks a goroutine and wakes it again: selecting, parking and waking are a fifth of the host's time here, and " +
		"64 callers fill a worker's pipe less evenly than one does",
	"2.engines": "as on one engine; and answers for different engines are not one step of a journal",
	"3.bare": "the core that yields by itself takes a fifth of what one takes that wazero interrupts, on which the target counted; an action's machine, " +
		"journal and checksums take about 1 µs beside it",
	"4": "no hot spot is left: at 52 tokens the time is flat over checking the payload, finding and calling the handler, comparing and " +
		"copying a few bytes, and the allocator; wazero checks the bounds of each access and does not inline calls, and what makes the " +
		"core faster makes native code faster, too",
	"7.light": "two workers and the host are three processes on two cores, and each action finds somebody else on its core: a switch " +
		"costs more than the action, which is why engines are not spread over more workers than there are cores",
	"7.scarce_heavy": "engines are spread over as many workers as there are cores; the others take none of the time, but a round where one of " +
		"the first was started late has its engines elsewhere",
	"7.scarce_light": "as above: on two workers one action in two finds its worker parked",
	"7.idle":         "a host that is idle looks after its workers once a second, and each look wakes some of Go's threads",
	"8.journal": "an action's record is encoded and copied, the store's lock is taken for each group, and every thousand small actions a snapshot " +
		"runs before the next one",
}

// Way returns what stands in the way of a target where it is missed, "" where that is not known.
func Way(id string) string { return ways[id] }

// judge holds a target against figures, by their IDs.
func (t Target) judge(figures map[string]*Figure) Judged {
	j := Judged{Target: t, Verdict: NotMeasured}
	f := figures[t.Figure]
	if f == nil || len(f.rounds) == 0 {
		return j
	}
	value := f.Spread
	if t.Relation != absolute {
		b := figures[t.Baseline]
		if b == nil {
			return j
		}
		ratios := f.ratios(b, t.Relation)
		if len(ratios) == 0 {
			return j
		}
		value = spread(ratios)
	}
	j.Value = &value
	if (t.AtLeast && value.Median >= t.Limit) || (!t.AtLeast && value.Median <= t.Limit) {
		j.Verdict = Met
		return j
	}
	j.Verdict, j.InTheWay = Missed, t.Way
	return j
}

// ratios returns those of the rounds that both have.
func (f *Figure) ratios(b *Figure, how relation) (list []float64) {
	for round, v := range f.rounds {
		w, there := b.rounds[round]
		if how == under {
			v, w = w, v
		}
		if there && w > 0 {
			list = append(list, v/w)
		}
	}
	return list
}
