package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"hypertoken/host"
	"hypertoken/internal/storeload"
)

// The names of probes. Targets and the report refer to them.
const (
	pipe            = "pipe"
	nodePing        = "node_ping"
	netRPC          = "go_plugin_netrpc"
	grpcCall        = "go_plugin_grpc"
	pingWorker      = "ping_worker"
	pingInProcess   = "ping_in_process"
	drawWorker      = "dispatch_worker"
	drawInProcess   = "dispatch_in_process"
	mixWorker       = "mix_worker"
	mixInProcess    = "mix_in_process"
	fiveWorker      = "five_worker"
	fiveInProcess   = "five_in_process"
	decksInProcess  = "draws_in_process"
	bareInterrupted = "bare_interruptible"
	barePlain       = "bare_plain"
	nodePipelined   = "node_pipelined"
	pipelined       = "pipelined_worker"
	shared          = "pipelined_64_callers"
	many            = "pipelined_64_engines"
	journaled       = "journal_default"
	unjournaled     = "journal_none"
	workerMemory    = "memory"
	out             = "taken_out"
	bareSync        = "write_and_sync"
	written         = "written"
	restart         = "restart"
	restartKilled   = "restart_killed"
	notOpen         = "not_open"
	directory       = "new_directory"
	past            = "state_at"
	fork            = "fork"
	undo            = "undo"
	shutdownMemory  = "shutdown_memory"
	shutdownDisk    = "shutdown_disk"
	clusterIdle     = "cluster_idle"
	clusterNotOpen  = "cluster_not_open"
	wrongNode       = "wrong_node"
	killedNode      = "killed_node"
	stoppedNode     = "stopped_node"
)

func groups() []group { return slices.Concat(hostGroups(), storeGroups(), clusterGroups()) }

// hostGroups measure a host whose store is in memory.
func hostGroups() []group {
	return []group{
		{name: "roundtrip", weight: 22, rounds: 5, probes: []probe{
			{name: pipe, about: aboutPipe, histogram: true, open: openPipe},
			{name: nodePing, about: "32 bytes to one of Node's worker threads and back", histogram: true, open: openNode(1)},
			{name: netRPC, about: "32 bytes through go-plugin's net/rpc", open: openNetRPC},
			{name: grpcCall, about: "32 bytes through go-plugin's gRPC", open: openGRPC},
			{name: pingWorker, about: "an action that does nothing, on a worker", needs: []string{actionPing}, open: openPing(1)},
			{name: drawWorker, about: "a draw from 52 tokens, journaled, decoded, on a worker", needs: drawing, histogram: true, open: openDispatch(1)},
			{name: mixWorker, about: "52 draws, a reset and a shuffle, each, on a worker", needs: append(drawing, actionShuffle), open: openMix(1)},
			{name: fiveWorker, about: "five draws at once, each, on a worker", needs: drawing, open: openFive(1)},
		}},
		{name: "in_process", weight: 10, rounds: 5, probes: []probe{
			{name: pingInProcess, about: "an action that does nothing, in process", needs: []string{actionPing}, open: openPing(inProcess)},
			{name: drawInProcess, about: "a draw from 52 tokens, journaled, decoded, in process", needs: drawing, histogram: true, open: openDispatch(inProcess)},
			{name: mixInProcess, about: "52 draws, a reset and a shuffle, each, in process", needs: append(drawing, actionShuffle), open: openMix(inProcess)},
			{name: fiveInProcess, about: "five draws at once, each, in process", needs: drawing, open: openFive(inProcess)},
			{name: decksInProcess, about: "a draw, journaled, not decoded, in process, mean of 52", needs: drawing, open: openDecks(inProcess)},
			{name: bareInterrupted, about: "the core's call of that draw, interruptible, mean of 52", needs: drawing, open: openBare(true)},
			{name: barePlain, about: "the core's call of that draw, plain, mean of 52", needs: drawing, open: openBare(false)},
		}},
		{name: "pipelined", weight: 16, rounds: 5, probes: []probe{
			{name: nodePipelined, about: fmt.Sprintf("Node's worker thread, %d messages in flight", depth), open: openNode(depth)},
			{name: "go_plugin_netrpc_pipelined", about: fmt.Sprintf("go-plugin's net/rpc, %d calls in flight", depth), open: openNetRPCPipelined},
			{name: "go_plugin_grpc_pipelined", about: fmt.Sprintf("go-plugin's gRPC, %d callers", manyCallers), open: openGRPCPipelined},
			{name: pipelined, about: fmt.Sprintf("journaled draws and resets, %d in flight, one goroutine", depth), needs: drawing, open: openPipelined(1, host.Options{})},
			{name: "pipelined_in_process", about: "the same in process", needs: drawing, open: openPipelined(inProcess, host.Options{})},
			{name: shared, about: fmt.Sprintf("the same from %d goroutines on one engine", manyCallers), needs: drawing, open: openShared},
			{name: many, about: fmt.Sprintf("the same from %d goroutines on an engine each", manyCallers), needs: drawing,
				open: openMany(1, manyCallers, deckSize, host.Options{}, drawOrReset)},
		}},
		{name: "allocations", weight: 1, rounds: 3, probes: []probe{
			{name: "allocations_worker", about: "of a draw on a worker, in the host", needs: drawing, open: openAllocations(1)},
			{name: "allocations_in_process", about: "of a draw in process", needs: drawing, open: openAllocations(inProcess)},
			{name: "allocations_bare", about: "of the core's call of it, interruptible", needs: drawing, open: openBareAllocations},
		}},
		{name: "starts", weight: 12, rounds: 5, probes: []probe{
			{name: "start", about: "start of a host to the first answer of its worker, warm cache", needs: drawing, open: openStart},
			{name: "kill", about: "SIGKILL to the next answer, 1,000 actions in the journal", needs: append(drawing, actionPeek), open: openKill(host.Options{}, func(host.Stats) bool { return true })},
			{name: "kill_spare", about: "the same with a spare worker", needs: append(drawing, actionPeek), open: openSpared},
			{name: "replay", about: fmt.Sprintf("actions of a journal of %d, replayed on a worker", replayActions), needs: append(drawing, actionPeek), open: openReplay},
		}},
		{name: "memory", weight: 8, least: 2 * time.Second, rounds: 3, probes: []probe{
			{name: workerMemory, about: "PSS of a worker with one engine, and what another one takes", needs: drawing, open: openWorkerMemory},
			{name: "growth", about: "what the host has more in memory after many actions", needs: drawing, open: openGrowth},
		}},
		{name: "out", weight: 12, least: time.Second, rounds: 3, probes: []probe{
			{name: out, about: "engines that are taken out: memory of each here, and the answer of a random one", needs: []string{actionPeek}, open: openOut},
		}},
		scale("heavy", "a shuffle of 10,000 tokens", []string{actionShuffle}, 10_000, shuffle),
		scale("light", "a draw from 52 tokens", drawing, deckSize, drawOrReset),
		{name: "idle", weight: 10, least: 3 * time.Second, rounds: 3, probes: []probe{
			{name: "idle", about: fmt.Sprintf("CPU of host and worker with %d engines that nobody calls", idleEngines), open: openIdle},
		}},
		{name: "journal", weight: 6, rounds: 7, probes: []probe{
			{name: journaled, about: "pipelined draws on a worker, at default settings", needs: drawing, open: openPipelined(1, host.Options{})},
			{name: unjournaled, about: "the same with a store that keeps nothing, and no snapshots", needs: drawing,
				open: openPipelined(1, host.Options{Store: forgetful{new(sync.Map)}, SnapshotBytes: neverBytes,
					ReplayBudget: neverTime})},
		}},
	}
}

// storeGroups measure the store on disk, beside others.
func storeGroups() []group {
	inFlight := func(s storeload.Shape) string {
		return fmt.Sprintf("draws and resets, %d engines with %d in flight each", s.Engines, s.InFlight)
	}
	return []group{
		{name: "durable", weight: 15, rounds: 5, probes: append([]probe{
			{name: bareSync, about: "as many bytes as the log gets for an action, written to a file and synced (fdatasync)", needs: drawing, histogram: true, open: openSync}},
			storeProbes(shapeSingle, "a draw from one engine, one at a time")...)},
		{name: "stores", weight: 45, rounds: 5, probes: slices.Concat(storeProbes(shapeSome, inFlight(shapeSome)),
			storeProbes(shapeMany, inFlight(shapeMany)), storeProbes(shapeScatter, inFlight(shapeScatter)))},
		{name: "written", weight: 20, least: 500 * time.Millisecond, rounds: 1, probes: []probe{
			{name: written, about: "bytes to the disk, in whole pages, for a byte of encoded records; to files; in rows of groups; records of a sync: " + inFlight(shapeScatter), needs: drawing, open: openWritten},
		}},
		{name: "directory", weight: 1, rounds: 3, probes: []probe{
			{name: directory, about: "what a new directory takes on the disk, with one game", needs: drawing, open: openDirectory},
		}},
		{name: "shutdown", weight: 20, least: time.Second, rounds: 3, probes: []probe{
			{name: shutdownMemory, about: fmt.Sprintf("Shutdown of a host whose engines have played %d actions each, in memory", shutdownActions), needs: drawing, open: openShutdown(storeMemory)},
			{name: shutdownDisk, about: "the same on disk, the store closed", needs: drawing, open: openShutdown(storeDisk)},
		}},
		{name: "past", weight: 6, least: time.Second, rounds: 5, probes: []probe{
			{name: past, about: fmt.Sprintf("a state of the past of a game of %d actions, on a worker", pastActions), needs: drawing, open: openPast},
			{name: fork, about: "a game that begins with such a state; the store syncs by an interval", needs: drawing, open: openFork},
			{name: undo, about: "an undo, and the first action behind it, of a game of a few actions on disk", needs: drawing, open: openUndo},
		}},
		{name: "stored", weight: 60, least: 2 * time.Second, rounds: 3, probes: []probe{
			{name: restart, about: "serve, ended by SIGTERM: the start of its process to the first answer; its memory once it has counted its engines, and what of that is not the program's file", needs: drawing, open: openRestart(syscall.SIGTERM)},
			{name: restartKilled, about: "the same, ended by SIGKILL", needs: drawing, open: openRestart(os.Kill)},
			{name: notOpen, about: "the first answer of an engine that is not open, over HTTP; again is its second one, p50", needs: drawing, open: openNotOpen},
		}},
	}
}

// clusterGroups measure a cluster: three NATS servers that sync each write, and three nodes, as processes
// on this machine.
func clusterGroups() []group {
	log := func(s storeload.Shape, publish, dispatch string) []probe {
		return []probe{
			{name: storeProbe(storePublish, s), about: publish, needs: drawing, open: openPublish(s)},
			{name: storeProbe(storeCluster, s), about: dispatch, needs: drawing, open: openOnLog(s)},
		}
	}
	several := func(s storeload.Shape) []probe {
		return log(s, fmt.Sprintf("as many bytes, published from %d callers with one in flight each: a message for each", s.Engines),
			fmt.Sprintf("draws and resets on such a host, %d engines with one in flight each", s.Engines))
	}
	return []group{
		{name: "cluster_log", weight: 40, least: 4 * time.Second, rounds: 5, probes: slices.Concat(
			log(shapeSingle, "as many bytes as the log gets for an action, published to its stream: synced by two of three servers at least",
				"Dispatch of a draw on a host in this process whose store is that stream: what a node does for an action, without HTTP"),
			several(shapeScatter), several(shapeCrowd))},
		{name: "cluster_nodes", weight: 30, least: 4 * time.Second, rounds: 3, probes: []probe{
			{name: clusterIdle, about: "memory (RSS) and CPU of the server and of the node that has most, before engines are stored and after, while nobody calls", needs: drawing, open: openIdleCluster},
			{name: clusterNotOpen, about: "the first answer of an engine that nobody has open, over HTTP, at any node; again is its second one, p50", needs: drawing, open: openClusterNotOpen},
			{name: wrongNode, about: "a draw over HTTP at a node that does not have the engine; right is one at its node, in turn, p50; added is the difference", needs: drawing, open: openWrongNode},
		}},
		{name: "cluster_faults", weight: 20, least: 4 * time.Second, rounds: 1, probes: []probe{
			{name: killedNode, about: "SIGKILL of a node to the next answer of each of its engines, at other nodes; worst is the longest of all kills", needs: drawing, open: openClusterKill},
			{name: stoppedNode, about: "answers from the SIGTERM of a node on whose engines have a caller each that plays an action a second, over HTTP; longest_before is of 2 s before; errors are answers that fail, and requests that break off", needs: drawing, open: openClusterStop},
		}},
	}
}

// workerCounts are the numbers of workers of a scaling curve.
func workerCounts() []int {
	list := []int{1, 2, 4, 8, runtime.NumCPU()}
	slices.Sort(list)
	return slices.Compact(list)
}

// scaleEngines is how many engines have a caller each in a scaling curve.
func scaleEngines() int { return max(8, runtime.NumCPU()) }

func scale(kind, what string, needs []string, tokens int, call caller) group {
	g := group{name: kind, weight: 6, least: 500 * time.Millisecond, rounds: 5}
	for _, n := range workerCounts() {
		g.probes = append(g.probes, probe{name: scaleName(kind, n),
			about: fmt.Sprintf("%s, %d engines with a caller each, %d workers", what, scaleEngines(), n),
			needs: needs, open: openMany(n, scaleEngines(), tokens, host.Options{}, call)})
	}
	g.derive = func(round map[string]float64, add func(id, unit string, value float64)) {
		best, least := 0.0, 0.0
		for _, n := range workerCounts() {
			v, there := round[scaleName(kind, n)+".rate"]
			if !there {
				return
			}
			best = max(best, v)
			if n > 1 && (least == 0 || v < least) {
				least = v
			}
		}
		add(kind+".best", "per_s", best)
		add(kind+".least_of_more", "per_s", least)
	}
	return g
}

func scaleName(kind string, workers int) string { return fmt.Sprintf("%s_%d_workers", kind, workers) }
