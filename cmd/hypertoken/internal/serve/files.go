package serve

import "fmt"

// Open files that a server needs in addition to those of its connections and its host.
const (
	ownFiles  = 24 // the server's own files, also those that are open for a moment only
	leastRoom = 8  // the least number of connections with a seat, and of those without one
)

// FitFiles lowers the bounds of connections so that they fit a limit of open files. The host needs
// as many files as [host.Descriptors] says: a worker that cannot be restarted is worse than a
// client that has to wait. FitFiles returns a text that says what it lowered, or "". It fails if
// too few files are left.
func (o *Options) FitFiles(limit uint64, ofHost int) (lowered string, err error) {
	reserved := uint64(ownFiles + ofHost)
	need := reserved + uint64(o.MaxConnections) + waitingRoom
	if limit >= need {
		return "", nil
	}
	advice := fmt.Sprintf("raise the limit to %d (ulimit -n, LimitNOFILE)", need)
	if limit < reserved+2*leastRoom {
		return "", fmt.Errorf("this process may open %d files, and its workers and the server need %d: %s, or lower --workers",
			limit, reserved+2*leastRoom, advice)
	}
	free := int(limit - reserved)
	waiting := min(max(free/4, leastRoom), waitingRoom)
	connections := min(free-waiting, o.MaxConnections)
	lowered = fmt.Sprintf("--max-connections is lowered from %d to %d, since this process may open %d files: "+
		"%s, or lower --max-connections",
		o.MaxConnections, connections, limit, advice)
	if connections == o.MaxConnections {
		lowered = ""
	}
	o.MaxConnections, o.waitingRoom = connections, waiting
	o.MaxConnectionsPerAddress = min(o.MaxConnectionsPerAddress, connections)
	return lowered, nil
}
