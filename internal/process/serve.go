package process

import (
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
)

type rpcClient = rpc.Client

// Serve is what a worker does first. It takes standard input and output for the frames, so that whatever else reads or
// prints in this process does neither to them: standard input is empty from now on, and standard output goes where
// standard error does. Then it shakes hands and returns the ends of the pipes.
func Serve() (in, out *os.File, err error) {
	if in, out, err = takeStdio(); err != nil {
		return nil, nil, fmt.Errorf("taking standard input and output: %w", err)
	}
	// In its test mode go-plugin's server leaves os.Stdout, os.Stderr and signals alone, and says where it listens
	// instead of printing it: the line is ours to write.
	address := make(chan *plugin.ReattachConfig)
	served := make(chan struct{})
	go func() {
		defer close(served)
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: handshake,
			Plugins:         plugins,
			Logger:          hclog.NewNullLogger(),
			Test:            &plugin.ServeTestConfig{Context: context.Background(), ReattachConfigCh: address},
		})
	}()
	select {
	case a := <-address:
		_, err = fmt.Fprintf(out, "%d|%d|%s|%s|%s|\n", plugin.CoreProtocolVersion, handshake.ProtocolVersion,
			a.Addr.Network(), a.Addr.String(), plugin.ProtocolNetRPC)
	case <-served:
		err = errors.New("go-plugin's server did not start")
	}
	return in, out, err
}
