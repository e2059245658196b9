package sabotage

// Suite is some of the tests of a package, with the time that they get.
type Suite struct {
	Folder string // of the package
	Tests  string // for -test.run
	Args   string // further flags
	// Tries is how often the tests are run until they notice; 0 is once. It is for tests that leave
	// to chance at what moment a process is killed, or the power is lost.
	Tries int
}

// Suites are the tests that notice breaches, by the name that a breach's line "Noticed by" gives
// them. This is the one place that names packages and tests.
var Suites = map[string]Suite{
	"simulation": {"internal/driver", "^TestSimulation$", "-events 200000", 0},
	"cluster":    {"internal/cluster", "^TestSimulation$", "-events 2000000", 0},
	// The same rules in the store that keeps the journals of a cluster, each with a NATS server.
	"jetstream fence":        {"journal/jetstream", "^TestASlotIsTakenOver$", "", 0},
	"jetstream lease":        {"journal/jetstream", "^TestBarriersAndTheLease$", "", 0},
	"jetstream tenure":       {"journal/jetstream", "^TestNothingOfAnEarlierTenureIsSent$", "", 0},
	"jetstream replica":      {"journal/jetstream", "^TestStaleReplica$", "", 0},
	"jetstream load":         {"journal/jetstream", "^TestALoadWaitsForTheAppendBeforeIt$", "", 0},
	"jetstream former owner": {"journal/jetstream", "^TestALoadOfAFormerOwner$", "", 0},
	"jetstream next owner":   {"journal/jetstream", "^TestALoadThatReadsOfTheNextOwner$", "", 0},
	"jetstream claim":        {"journal/jetstream", "^TestMayClaim$", "", 0},
	"jetstream member":       {"journal/jetstream", "^TestALateMemberRecordIsRefused$", "", 0},
	"jetstream doubt":        {"journal/jetstream", "^TestWhatMayBeStoredIsNotSentAgain$", "", 0},
	"jetstream late batch":   {"journal/jetstream", "^TestFaultsOnTheWay$/^the_batch_comes_late$", "", 0},
	"jetstream death":        {"journal/jetstream", "^TestADeathAtEachStep$", "", 0},
	"jetstream target":       {"journal/jetstream", "^TestTheTargetCore$", "", 0},
	"jetstream settling":     {"journal/jetstream", "^TestTakenOverWhileSettling$", "", 0},
	"jetstream trimming": {"journal/jetstream", "^TestTrimming(SinceTheNewestBase|LeavesABaseWithoutItsGroups)$",
		"", 0},
	"jetstream giving": {"journal/jetstream", "^TestGiveWaits$", "", 0},
	"jetstream base":   {"journal/jetstream", "^TestABaseBehindWhichGroupsAreSettled$", "", 0},

	"routing":         {"internal/serve", "^TestRouting$", "", 0},
	"forwarded twice": {"internal/serve", "^TestNodeHandler$", "", 0},
	"lost answer":     {"internal/peers", "^TestSendWhoseAnswerIsLost$", "", 0},

	"pool":          {"internal/pool", "", "", 0},
	"placement":     {"internal/placement", "", "", 0},
	"batches":       {"host", "^TestBatches$/^on_workers$", "", 0},
	"target core":   {"host", "^TestOnlyTheTargetTakesAJournalOver$", "", 0},
	"another core":  {"host", "^TestAJournalMovesToAnotherCore$", "", 0},
	"migration":     {"internal/migration", "", "", 0},
	"diverging":     {"host", "^TestACoreThatDiffersOnReplayIsFoundOut$/^on_workers$", "", 0},
	"events":        {"host", "^TestEvents$", "", 0},
	"killed worker": {"host", "^TestKilledBetweenTwoFrames$", "", 0},
	"lost entry":    {"host", "^TestAJournalThatHasLostAnEntryIsFoundOut$/^on_workers$", "", 0},
	"past":          {"host", "^TestStateAt$/^in_process$", "", 0},
	"undo":          {"host", "^TestUndo(AndRedo|OfABatch)$/^in_process$", "", 0},
	"import":        {"host", "^TestAnImportThatFails$", "", 0},
	"one owner":     {"host", "^TestAJournalHasOneOwner$", "", 0},
	"stale answers": {"host", "^TestNoStaleAnswer$/^in_process$", "", 0},
	"barriers":      {"internal/engine", "Barrier", "", 0},
	"connection":    {"ipc", "^TestConn", "", 0},
	"failed start":  {"internal/process", "^TestWhatCannotBeStarted$/^no_program$", "", 0},
	"hang":          {"integration", "^TestAHangPastItsDeadline$", "", 0},
	"torture":       {"cmd/hypertoken/internal/torture", "^TestTorture$", "-torture 4s -seed 3", 6},
	"host torture":  {"cmd/hypertoken/internal/torture", "^TestHostTorture$", "-torture 6s -seed 3", 6},
	"disk":          {"journal/disk", "^TestTheSuite$", "", 0},
	"disk history":  {"journal/disk", "^TestTheHistoryHasEverything$", "", 0},
	"trimming":      {"journal/disk", "^TestTrimming|^TestPowerLossWhileHistoryIsTrimmed$", "", 6},
	"power loss":    {"journal/disk", "^TestPowerLoss$", "", 6},
	"large base":    {"journal/disk", "^TestPowerLossInALargeBase$", "", 0},
	"verify": {"internal/journals",
		"^(TestWhatVerifyFinds|TestVerifyChecksMarkers)$", "", 0},
	"backup": {"internal/journals", "^TestBackup$", "", 0},
	"export": {"cmd/hypertoken", "^TestScripts$/^export$", "", 0},
}
