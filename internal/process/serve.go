package process

import (
	"fmt"
	"io"
	"net/rpc"
	"os"

	"github.com/hashicorp/go-plugin"
)

type rpcClient = rpc.Client

// Serve is the first step of a worker. It closes the descriptors that the process has inherited,
// and takes standard input and output for the frames. From then on, standard input is empty, and
// standard output goes to standard error, so other code that reads or prints does not disturb the
// frames. Then Serve shakes hands, and returns the pipe to read frames from and the pipe to write
// frames to.
func Serve() (in, out *os.File, err error) {
	if err = dropInherited(); err != nil {
		return nil, nil, err
	}
	takeName(os.Args[0])
	if in, out, err = takeStdio(); err != nil {
		return nil, nil, fmt.Errorf("taking standard input and output: %w", err)
	}
	l, err := listen()
	if err != nil {
		return nil, nil, fmt.Errorf("making go-plugin's socket: %w", err)
	}
	// go-plugin's own Serve would take os.Stdout and os.Stderr, and needs a directory for its
	// socket.
	server := &plugin.RPCServer{Plugins: plugins, Stdout: nothing{}, Stderr: nothing{}}
	go server.Serve(l)
	_, err = fmt.Fprintf(out, "%d|%d|%s|%s|%s|\n", plugin.CoreProtocolVersion, handshake.ProtocolVersion,
		l.Addr().Network(), l.Addr().String(), plugin.ProtocolNetRPC)
	return in, out, err
}

// nothing is an empty stream, for any number of readers.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }
