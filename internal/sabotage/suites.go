package sabotage

// Suite is some of the tests of a package, with the time that they get.
type Suite struct {
	Folder string // of the package
	Tests  string // for -test.run
	Args   string // further flags
}

// Suites are the tests that notice breaches, by the name that a breach's line "Noticed by" gives
// them. This is the one place that names packages and tests.
var Suites = map[string]Suite{
	"simulation":    {"internal/driver", "^TestSimulation$", "-events 200000"},
	"cluster":       {"internal/cluster", "^TestSimulation$", "-events 3000000"},
	"pool":          {"internal/pool", "", ""},
	"placement":     {"internal/placement", "", ""},
	"batches":       {"host", "^TestBatches$/^on_workers$", ""},
	"another core":  {"host", "^TestAJournalMovesToAnotherCore$", ""},
	"migration":     {"internal/migration", "", ""},
	"diverging":     {"host", "^TestACoreThatDiffersOnReplayIsFoundOut$/^on_workers$", ""},
	"events":        {"host", "^TestEvents$", ""},
	"killed worker": {"host", "^TestKilledBetweenTwoFrames$", ""},
	"lost entry":    {"host", "^TestAJournalThatHasLostAnEntryIsFoundOut$/^on_workers$", ""},
	"past":          {"host", "^TestStateAt$/^in_process$", ""},
	"one owner":     {"host", "^TestAJournalHasOneOwner$", ""},
	"connection":    {"ipc", "^TestConn", ""},
	"failed start":  {"internal/process", "^TestWhatCannotBeStarted$/^no_program$", ""},
	"hang":          {"integration", "^TestAHangPastItsDeadline$", ""},
	"torture":       {"cmd/hypertoken/internal/torture", "^TestTorture$", "-torture 4s -seed 3"},
	"host torture":  {"cmd/hypertoken/internal/torture", "^TestHostTorture$", "-torture 6s -seed 3"},
	"disk":          {"journal/disk", "^TestTheSuite$", ""},
	"disk history":  {"journal/disk", "^TestTheHistoryHasEverything$", ""},
	"power loss":    {"journal/disk", "^TestPowerLoss$", ""},
}
