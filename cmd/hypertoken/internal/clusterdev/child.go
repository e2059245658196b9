package clusterdev

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// roleVariable is the environment variable that says what this process is to a cluster.
const roleVariable = "HYPERTOKEN_CLUSTER_DEV"

// waysVariable is the environment variable that says how a node reaches the other ones, if that is not at
// their addresses: pairs of an address and the one to dial instead, all separated by commas.
const waysVariable = "HYPERTOKEN_CLUSTER_DEV_WAYS"

// The roles of processes.
const (
	roleGuard  = "guard"
	roleServer = "server"
	roleNode   = "node"
)

// heldDescriptor is the descriptor of the pipe that all processes of a cluster hold.
const heldDescriptor = 3

// exitOrphaned is the status of a process whose cluster has gone away.
const exitOrphaned = 1

// Main runs a NATS server or a guard, if a cluster has started this process for that. Then it does not
// return. In the process of a node it returns; from then on, the process ends when the cluster does.
// A program that calls [Start] calls Main at its start, after workerproc.Main.
func Main() {
	role := os.Getenv(roleVariable)
	if role == "" {
		return
	}
	// The workers of a node are no children of the cluster.
	_ = os.Unsetenv(roleVariable)
	readWays(os.Getenv(waysVariable))
	_ = os.Unsetenv(waysVariable)
	keepDescriptor()
	last := os.Args[len(os.Args)-1]
	switch role {
	case roleGuard:
		runGuard(os.Args[len(os.Args)-2], last)
		os.Exit(0)
	case roleServer:
		go endWithCluster()
		if err := runServer(last); err != nil {
			fmt.Fprintln(os.Stderr, "hypertoken:", err)
			os.Exit(1)
		}
		os.Exit(0)
	case roleNode:
		go endWithCluster()
	default:
		fmt.Fprintf(os.Stderr, "hypertoken: %s is for the processes of 'hypertoken cluster dev': unset it\n", roleVariable)
		os.Exit(1)
	}
}

// endWithCluster ends this process when the process that started it has ended.
func endWithCluster() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(exitOrphaned)
}

// listenTime is how long a NATS server may take until it listens, on the slowest machine.
const listenTime = 5 * time.Minute

// leaderCheck is how often a NATS server that has started looks whether there is a leader.
const leaderCheck = 20 * time.Millisecond

// runServer runs a NATS server until SIGTERM. It prints a line once it knows a leader of JetStream.
func runServer(file string) error {
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		return err
	}
	o.NoSigs, o.Logtime = true, true
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	s.Start()
	if !s.ReadyForConnections(listenTime) {
		return fmt.Errorf("the server does not listen at %s:%d", o.Host, o.Port)
	}
	ticker := time.NewTicker(leaderCheck)
	defer ticker.Stop()
	for isReady := false; ; {
		select {
		case <-term:
			s.Shutdown()
			s.WaitForShutdown()
			return nil
		case <-ticker.C:
		}
		if !isReady && s.JetStreamIsCurrent() {
			isReady = true
			ticker.Stop()
			fmt.Println("ready")
		}
	}
}
