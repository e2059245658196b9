package serve

import "fmt"

// Open files that a server needs in addition to those of its connections and its host.
const (
	ownFiles  = 24 // the server's own files, also those that are open for a moment only
	leastRoom = 8  // the least number of connections with a seat, and of those without one
)

// FitFiles lowers StoreFiles, and then the bounds of connections, so that they fit a limit of open
// files. The host needs ofHost files, as [host.Descriptors] says: a worker that cannot be restarted
// is worse than a client that has to wait. A store with fewer files only opens them more often, so
// it goes down to leastOfStore first. FitFiles returns a text that says what it lowered, or "". It
// fails if too few files are left.
func (o *Options) FitFiles(limit uint64, ofHost, leastOfStore int) (lowered string, err error) {
	reserved := uint64(ownFiles + ofHost)
	ofConnections := uint64(o.MaxConnections + waitingRoom)
	need := reserved + uint64(o.StoreFiles) + ofConnections
	if limit >= need {
		return "", nil
	}
	advice := fmt.Sprintf("raise the limit to %d (ulimit -n, LimitNOFILE)", need)
	least := uint64(min(o.StoreFiles, leastOfStore))
	if limit < reserved+least+2*leastRoom {
		what := "its workers and the server need"
		if o.StoreFiles > 0 {
			what = "its workers, the server and the store need"
		}
		return "", fmt.Errorf("this process may open %d files, and %s %d: %s, or lower --workers",
			limit, what, reserved+least+2*leastRoom, advice)
	}
	if o.StoreFiles > 0 {
		room := int64(limit) - int64(reserved+ofConnections)
		ofStore := int(max(int64(least), min(room, int64(o.StoreFiles))))
		lowered = fmt.Sprintf("the store may open %d files instead of %d, since this process may open %d: %s",
			ofStore, o.StoreFiles, limit, advice)
		o.StoreFiles = ofStore
	}
	free := int(limit-reserved) - o.StoreFiles
	waiting := min(max(free/4, leastRoom), waitingRoom)
	connections := min(free-waiting, o.MaxConnections)
	if connections < o.MaxConnections {
		lowered = fmt.Sprintf("--max-connections is lowered from %d to %d, since this process may open %d files: "+
			"%s, or lower --max-connections",
			o.MaxConnections, connections, limit, advice)
	}
	o.MaxConnections, o.waitingRoom = connections, waiting
	o.MaxConnectionsPerAddress = min(o.MaxConnectionsPerAddress, connections)
	return lowered, nil
}
