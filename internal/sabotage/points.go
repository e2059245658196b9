// Package sabotage breaks guarantees on purpose, so that it can be seen that the tests notice. Only a build with the tag
// sabotage has it: there [On] compares with the one point that the environment names. Without the tag it is a constant
// false, and the compiler leaves nothing of the hooks.
package sabotage

// Variable is the environment variable that names the point that is on. None is where it is not set.
const Variable = "HYPERTOKEN_SABOTAGE"

// Point is a place in the product where a guarantee can be broken.
type Point string

const (
	AnswerBeforeAppend   Point = "answer-before-append"
	ReadBeforeAppend     Point = "read-before-append"
	FailedAppendIsTaken  Point = "failed-append-is-taken"
	RecordLeftOut        Point = "record-left-out"
	NoFence              Point = "no-fence"
	WithdrawnIsJournaled Point = "withdrawn-is-journaled"
	CommittedIsWithdrawn Point = "committed-is-withdrawn"
	AtomicIgnored        Point = "atomic-ignored"
	RequeuedBehind       Point = "requeued-behind"
	NewestFirst          Point = "newest-first"
	WindowOvertaken      Point = "window-overtaken"
	InFlightFails        Point = "in-flight-fails"
	InFlightIsLost       Point = "in-flight-is-lost"
	ReplaySkipsOne       Point = "replay-skips-one"
	RunTwice             Point = "run-twice"
	PlacementReused      Point = "placement-reused"
	RequestReused        Point = "request-reused"
	LateAnswerCounts     Point = "late-answer-counts"
	SuspectsTogether     Point = "suspects-together"
	DeathsUncounted      Point = "deaths-uncounted"
	OthersUncleared      Point = "others-uncleared"
	KillsMakeSuspects    Point = "kills-make-suspects"
	SuspectInProcess     Point = "suspect-in-process"
	AloneCounts          Point = "alone-counts"
	BatchUnsplit         Point = "batch-unsplit"
	NoFallback           Point = "waits-without-workers"
	NoReturn             Point = "no-return"
	FallbackFromBase     Point = "fallback-from-base"
	WorkerForgotten      Point = "worker-forgotten"
	GoroutineLeft        Point = "goroutine-left"
	DescriptorLeft       Point = "descriptor-left"
	DirectoryLeft        Point = "directory-left"
	NoComparison         Point = "no-comparison"
	FailedReplayIsTaken  Point = "failed-replay-is-taken"
	SnapshotMisplaced    Point = "snapshot-misplaced"
	MigratedUnchecked    Point = "migrated-unchecked"
	TriedForEver         Point = "tried-for-ever"
	BrokenEndsWorker     Point = "broken-ends-worker"
	BrokenIsUnreadable   Point = "broken-is-unreadable"
	ReopenDoesNothing    Point = "reopen-does-nothing"
)

// Breach says what a point breaks.
type Breach struct {
	Point Point
	// Guarantee is the number of the guarantee, from 1 to 9; ARCHITECTURE.md lists them.
	Guarantee int
	What      string
}

// Breaches are all points, in the order of their guarantees.
var Breaches = []Breach{
	{AnswerBeforeAppend, 1, "an action is acknowledged when its append begins, not when it ends"},
	{ReadBeforeAppend, 1, "a read is answered before what it saw is appended"},
	{FailedAppendIsTaken, 1, "an append that failed counts as done"},
	{RecordLeftOut, 1, "of a group of two or more the last record is left out"},
	{NoFence, 2, "an action that ran past its deadline leaves its effect in the instance"},
	{WithdrawnIsJournaled, 2, "an action that was withdrawn after its answer is journaled all the same"},
	{CommittedIsWithdrawn, 2, "an action whose append is under way fails at its deadline"},
	{AtomicIgnored, 2, "a worker runs an atomic batch as an independent one"},
	{RequeuedBehind, 3, "what runs again does so behind what came later"},
	{NewestFirst, 3, "of two queued actions the later one is sent first"},
	{WindowOvertaken, 3, "what comes after a batch that is still gathered is sent before it"},
	{InFlightFails, 4, "what was in flight fails with its worker"},
	{InFlightIsLost, 4, "what was in flight is forgotten with its worker"},
	{ReplaySkipsOne, 4, "a replay begins with the second entry"},
	{RunTwice, 4, "what is being appended when its worker dies runs again"},
	{PlacementReused, 4, "placement IDs begin again after eight"},
	{RequestReused, 4, "the ID of a request that is answered is used for the next"},
	{LateAnswerCounts, 4, "an answer from a place that the engine has left is taken for one from where it is"},
	{SuspectsTogether, 5, "suspects run beside others"},
	{DeathsUncounted, 5, "deaths while alone do not count towards MaxAttempts"},
	{OthersUncleared, 5, "the others stay suspects when one has died alone"},
	{KillsMakeSuspects, 5, "a worker that the host kills leaves suspects"},
	{SuspectInProcess, 5, "where no worker can run, a suspect runs in process"},
	{AloneCounts, 5, "a death while alone counts as a restart"},
	{BatchUnsplit, 5, "a suspected independent batch stays whole"},
	{NoFallback, 6, "where no worker can run, engines wait"},
	{NoReturn, 6, "engines stay in process when a worker is back"},
	{FallbackFromBase, 6, "in process an engine starts from its snapshot or setup, without its entries"},
	{WorkerForgotten, 7, "Shutdown leaves the workers alone"},
	{GoroutineLeft, 7, "the goroutine of a listener outlives its engine"},
	{DescriptorLeft, 7, "the pipe from a worker is not closed"},
	{DirectoryLeft, 7, "the directory of a worker that could not be started stays"},
	{NoComparison, 8, "a replay does not compare results"},
	{FailedReplayIsTaken, 8, "an action that fails in a replay is skipped"},
	{SnapshotMisplaced, 8, "a snapshot is installed one sequence too early"},
	{MigratedUnchecked, 8, "the replay by another core does not compare results"},
	{TriedForEver, 9, "placings that fail do not count towards MaxAttempts"},
	{BrokenEndsWorker, 9, "an engine that breaks ends the worker it was on"},
	{BrokenIsUnreadable, 9, "the journal of a broken engine can't be read"},
	{ReopenDoesNothing, 9, "Reopen of a broken engine does not try again"},
}
