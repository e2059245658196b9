package bench

import "hypertoken/internal/storeload"

// relation is the kind of value that is compared with a limit.
type relation string

const (
	// absolute is the figure itself.
	absolute relation = "figure"
	// over is the figure divided by its baseline.
	over relation = "figure/baseline"
	// under is the baseline divided by the figure: how many times the figure is below it.
	under relation = "baseline/figure"
)

// Target is a bound that a figure is meant to keep.
type Target struct {
	ID   string `json:"id"`
	Text string `json:"text"`
	// Figure and Baseline are IDs of figures. If the figure itself is compared with the limit, the baseline
	// is shown beside it.
	Figure   string   `json:"figure"`
	Baseline string   `json:"baseline,omitempty"`
	Relation relation `json:"relation"`
	// AtLeast is true if Limit is a least value; otherwise it is a greatest one. Limit is in the
	// figure's unit, or a ratio.
	AtLeast bool    `json:"at_least"`
	Limit   float64 `json:"limit"`
}

// Verdict is whether a target was met.
type Verdict string

const (
	Met         Verdict = "met"
	Missed      Verdict = "missed"
	NotMeasured Verdict = "not measured"
)

// Judged is a target with its value and its verdict.
type Judged struct {
	Target
	Verdict Verdict `json:"verdict"`
	// Value is that of the figure, or the ratio, round by round; its median is held against the
	// limit.
	Value *Spread `json:"value,omitempty"`
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
	beside := func(id, text, figure, baseline string, limit float64) Target {
		return Target{ID: id, Text: text, Figure: figure, Baseline: baseline, Relation: absolute, Limit: limit}
	}
	return []Target{
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

		atMost("6.worker", "a worker with one engine: at most 16 MiB of its own (PSS)", workerMemory+".worker",
			16*mebibyte),
		atMost("6.engine", "an idle engine of 52 tokens in its worker: at most 256 KiB", workerMemory+".engine",
			256*kibibyte),
		atMost("6.out", "one that is taken out: at most 16 KiB", out+".engine", 16*kibibyte),
		atMost("6.many", "100,000 of those: at most 2 GiB", out+".hundred_thousand", 2*1024*mebibyte),
		atMost("6.answer", "a random one answers, p50: within 1 ms", out+".p50", 1*millisecond),

		{ID: "7.heavy", Text: "heavy actions, 2 workers: at least 1.8 times one",
			Figure: scaleName("heavy", 2) + ".rate", Baseline: scaleName("heavy", 1) + ".rate", Relation: over,
			Limit: 1.8, AtLeast: true},
		{ID: "7.light", Text: "light ones: no loss from more workers (0.95 times one)",
			Figure: "light.least_of_more", Baseline: scaleName("light", 1) + ".rate", Relation: over, Limit: 0.95,
			AtLeast: true},
		{ID: "7.scarce_heavy", Text: "heavy ones, 8 workers: within 10 % of the best",
			Figure: scaleName("heavy", 8) + ".rate", Baseline: "heavy.best", Relation: over, Limit: 0.9, AtLeast: true},
		{ID: "7.scarce_light", Text: "light ones, 8 workers: within 10 % of the best",
			Figure: scaleName("light", 8) + ".rate", Baseline: "light.best", Relation: over, Limit: 0.9, AtLeast: true},
		atMost("7.idle", "CPU with 1,000 idle engines: below 0.1 %", "idle.cpu", 0.1),

		{ID: "8.journal", Text: "journal and snapshots: at most 5 % of throughput",
			Figure: journaled + ".rate", Baseline: unjournaled + ".rate", Relation: over, Limit: 0.95, AtLeast: true},
		atMost("8.bounded", "memory of an engine: no growth with its actions (256 KiB)", "growth.growth", 256*kibibyte),

		{ID: "9.single", Text: "on disk: a dispatch from one engine, p50: at most 1.2 times a bare write and fdatasync",
			Figure: storeProbe(storeDisk, shapeSingle) + ".p50", Baseline: bareSync + ".p50", Relation: over,
			Limit: 1.2},
		ofMemory("9.some", "16 engines, 64 in flight each: at least 0.8 times the store in memory", shapeSome, 0.8),
		ofMemory("9.many", "256 engines, 64 in flight each: at least 0.95 times the store in memory", shapeMany, 0.95),
		ofMemory("9.scatter", "256 engines, one in flight each: at least 0.35 times the store in memory", shapeScatter,
			0.35),
		atMost("9.written", "bytes written to the disk for a byte of encoded records: at most 4", written+".ratio", 4),
		atMost("9.restart", "restart of serve to the first answer: at most 0.5 s", restart+".p50", 500*millisecond),
		atMost("9.resident", "its memory, its engines stored: at most 64 MiB", restart+".resident", 64*mebibyte),
		atMost("9.not_open", "an engine that is not open, first answer, p50: at most 2 ms", notOpen+".p50",
			2*millisecond),
		atMost("9.directory", "the disk that a new directory takes: at most 128 MiB", directory+".bytes", 128*mebibyte),
		atMost("9.shutdown", "Shutdown with 10,000 open engines that have played a little: at most 0.5 s",
			shutdownDisk+".p50", 500*millisecond),
		atMost("9.past", "StateAt of a game of 100,000 actions, p50: at most 50 ms", past+".p50", 50*millisecond),
		atMost("9.fork", "Fork of a game of 100,000 actions, p50: at most 5 ms and the base's copy", fork+".p50",
			5*millisecond),

		{ID: "10.single", Text: "in a cluster: a dispatch from one engine, p50: at most 1.3 times a bare synced publish",
			Figure:   storeProbe(storeCluster, shapeSingle) + ".p50",
			Baseline: storeProbe(storePublish, shapeSingle) + ".p50", Relation: over, Limit: 1.3},
		ofPublish("10.scatter", "256 engines, one in flight each: at least 2 times one publish an action", shapeScatter, 2),
		ofPublish("10.crowd", "4,096 engines, one in flight each: at least 5 times one publish an action", shapeCrowd, 5),
		beside("10.wrong", "an action at the wrong node, added to its p50 at the right one: at most 0.4 ms",
			wrongNode+".added", wrongNode+".right", 0.4*millisecond),
		atMost("10.kill", "SIGKILL of a node to the next answer of its engines, the worst: at most 2 s",
			killedNode+".worst", 2000*millisecond),
		beside("10.stop", "SIGTERM of a node with 1,000 active engines, the longest wait, beside that before: at most 1 s",
			stoppedNode+".longest", stoppedNode+".longest_before", 1000*millisecond),
		atMost("10.errors", "errors that its callers get: none", stoppedNode+".errors", 0),
		beside("10.server", "a server with 100,000 idle engines, beside one without: at most 150 MiB",
			clusterIdle+".server_hundred_thousand", clusterIdle+".server_before", 150*mebibyte),
		{ID: "10.node", Text: "a node with them, beside one without: nothing measurable (at most 1.1 times its memory)",
			Figure: clusterIdle + ".node", Baseline: clusterIdle + ".node_before", Relation: over, Limit: 1.1},
		beside("10.not_open", "an engine that nobody has open, first answer, p50, beside the second: at most 15 ms",
			clusterNotOpen+".p50", clusterNotOpen+".again", 15*millisecond),
	}
}

// ofMemory is a target for the store on disk, as a share of the throughput of the one in memory.
func ofMemory(id, text string, s storeload.Shape, share float64) Target {
	return Target{ID: id, Text: text, Figure: storeProbe(storeDisk, s) + ".rate",
		Baseline: storeProbe(storeMemory, s) + ".rate", Relation: over, Limit: share, AtLeast: true}
}

// ofPublish is a target for a host on the log of a cluster, in times of what bare publishes give.
func ofPublish(id, text string, s storeload.Shape, times float64) Target {
	return Target{ID: id, Text: text, Figure: storeProbe(storeCluster, s) + ".rate",
		Baseline: storeProbe(storePublish, s) + ".rate", Relation: over, Limit: times, AtLeast: true}
}

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
	j.Verdict = Missed
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
