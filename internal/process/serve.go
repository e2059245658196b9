package process

import (
	"context"
	"fmt"
	"net/rpc"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
)

type rpcClient = rpc.Client

// Serve is what a worker does first. It closes the descriptors that it has inherited, and takes standard input and output
// for the frames, so that whatever else reads or prints in this process does neither to them: standard input is empty from
// now on, and standard output goes where standard error does. Then it shakes hands and returns the ends of the pipes.
func Serve() (in, out *os.File, err error) {
	if err = dropInherited(); err != nil {
		return nil, nil, err
	}
	if in, out, err = takeStdio(); err != nil {
		return nil, nil, fmt.Errorf("taking standard input and output: %w", err)
	}
	// In its test mode go-plugin's server leaves os.Stdout, os.Stderr and signals alone, and says where it listens
	// instead of printing it: the line is ours to write.
	address := make(chan *plugin.ReattachConfig)
	served := make(chan struct{})
	said := new(firstLine)
	go func() {
		defer close(served)
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: handshake,
			Plugins:         plugins,
			Logger:          hclog.New(&hclog.LoggerOptions{Level: hclog.Error, DisableTime: true, Output: said}),
			Test:            &plugin.ServeTestConfig{Context: context.Background(), ReattachConfigCh: address},
		})
	}()
	select {
	case a := <-address:
		_, err = fmt.Fprintf(out, "%d|%d|%s|%s|%s|\n", plugin.CoreProtocolVersion, handshake.ProtocolVersion,
			a.Addr.Network(), a.Addr.String(), plugin.ProtocolNetRPC)
	case <-served:
		err = fmt.Errorf("go-plugin's server did not start: %s; its socket is made in %q, and a socket's name has about 100 bytes at most",
			said.text, os.Getenv(plugin.EnvUnixSocketDir))
	}
	return in, out, err
}

// firstLine keeps the first thing that is written to it. It is read when nothing more is.
type firstLine struct{ text string }

func (l *firstLine) Write(b []byte) (int, error) {
	if l.text == "" {
		l.text = strings.TrimSpace(string(b))
	}
	return len(b), nil
}
