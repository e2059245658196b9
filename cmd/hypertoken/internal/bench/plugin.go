package bench

import (
	"context"
	"errors"
	"net/rpc"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The children that echo bytes as go-plugin's own transports carry them.
const (
	childNetRPC = "net/rpc"
	childGRPC   = "grpc"
)

var handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "HYPERTOKEN_BENCH", MagicCookieValue: "echo"}

var echoes = map[string]plugin.Plugin{childNetRPC: netRPCEcho{}, childGRPC: grpcEcho{}}

// pluginChild serves until its host ends it, or is gone.
func pluginChild(kind string) {
	endWithHost()
	plugin.Serve(&plugin.ServeConfig{HandshakeConfig: handshake, Plugins: plugin.PluginSet{"echo": echoes[kind]},
		GRPCServer: plugin.DefaultGRPCServer, Logger: hclog.NewNullLogger()})
}

// netRPCEcho is the plugin over net/rpc; its client is the *rpc.Client.
type netRPCEcho struct{}

// Echo is a service of net/rpc.
type Echo struct{}

// Echo returns its argument.
func (Echo) Echo(in []byte, out *[]byte) error {
	*out = in
	return nil
}

func (netRPCEcho) Server(*plugin.MuxBroker) (any, error) { return Echo{}, nil }
func (netRPCEcho) Client(_ *plugin.MuxBroker, c *rpc.Client) (any, error) {
	return c, nil
}

// grpcEcho is the plugin over gRPC; its client is the *grpc.ClientConn.
type grpcEcho struct{ plugin.NetRPCUnsupportedPlugin }

const (
	echoService = "hypertoken.bench.Echo"
	echoMethod  = "Echo"
)

func (grpcEcho) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&grpc.ServiceDesc{ServiceName: echoService, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: echoMethod,
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			return in, decode(in)
		},
	}}}, struct{}{})
	return nil
}

func (grpcEcho) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// startPlugin starts a child and returns its client.
func startPlugin(r *room, kind string) (any, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self)
	sockets, err := os.MkdirTemp("", "hypertoken-bench")
	if err != nil {
		return nil, err
	}
	r.closing(func() { _ = os.RemoveAll(sockets) })
	c.Env = []string{childVariable + "=" + kind, plugin.EnvUnixSocketDir + "=" + sockets}
	detach(c)
	if err := tie(r, c); err != nil {
		return nil, err
	}
	client := plugin.NewClient(&plugin.ClientConfig{HandshakeConfig: handshake,
		Plugins: plugin.PluginSet{"echo": echoes[kind]},
		Cmd:     c, AllowedProtocols: []plugin.Protocol{plugin.ProtocolNetRPC, plugin.ProtocolGRPC},
		Logger: hclog.NewNullLogger()})
	r.closing(client.Kill)
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	return protocol.Dispense("echo")
}

func openNetRPC(_ context.Context, r *room) (slice, error) {
	plugged, err := startPlugin(r, childNetRPC)
	if err != nil {
		return nil, err
	}
	client, b := plugged.(*rpc.Client), make([]byte, messageSize)
	return func(ctx context.Context, d time.Duration, s *sample) error {
		return each(ctx, d, s, func() error {
			var out []byte
			return client.Call("Plugin.Echo", b, &out)
		})
	}, nil
}

func openNetRPCPipelined(_ context.Context, r *room) (slice, error) {
	plugged, err := startPlugin(r, childNetRPC)
	if err != nil {
		return nil, err
	}
	client, b := plugged.(*rpc.Client), make([]byte, messageSize)
	return func(ctx context.Context, d time.Duration, s *sample) error {
		answered := make(chan *rpc.Call, depth)
		for range depth {
			client.Go("Plugin.Echo", b, new([]byte), answered)
		}
		err := flow(ctx, d, s, func() (int, error) {
			c := <-answered
			client.Go("Plugin.Echo", b, new([]byte), answered)
			return 1, c.Error
		})
		for range depth {
			<-answered
		}
		return err
	}, nil
}

func openGRPC(_ context.Context, r *room) (slice, error) {
	plugged, err := startPlugin(r, childGRPC)
	if err != nil {
		return nil, err
	}
	conn, in := plugged.(*grpc.ClientConn), wrapperspb.Bytes(make([]byte, messageSize))
	return func(ctx context.Context, d time.Duration, s *sample) error {
		return each(ctx, d, s, func() error {
			return conn.Invoke(ctx, "/"+echoService+"/"+echoMethod, in,
				new(wrapperspb.BytesValue))
		})
	}, nil
}

func openGRPCPipelined(_ context.Context, r *room) (slice, error) {
	plugged, err := startPlugin(r, childGRPC)
	if err != nil {
		return nil, err
	}
	conn := plugged.(*grpc.ClientConn)
	return func(ctx context.Context, d time.Duration, s *sample) error {
		return callers(ctx, d, s, manyCallers, func(ctx context.Context, _ int) (bool, error) {
			return true, conn.Invoke(ctx, "/"+echoService+"/"+echoMethod, wrapperspb.Bytes(make([]byte, messageSize)),
				new(wrapperspb.BytesValue))
		})
	}, nil
}

// callers has n goroutines do something again and again, one call at a time each, and counts what counts.
func callers(ctx context.Context, d time.Duration, s *sample, n int,
	do func(ctx context.Context, caller int) (counts bool, err error)) error {
	var count atomic.Int64
	var over atomic.Bool
	var calling sync.WaitGroup
	failed := make([]error, n)
	for k := range n {
		calling.Go(func() {
			for !over.Load() && failed[k] == nil {
				counts := false
				if counts, failed[k] = do(ctx, k); counts {
					count.Add(1)
				}
			}
		})
	}
	wait := func(d time.Duration) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	wait(d / 10)
	began, before := time.Now(), count.Load()
	wait(d * 9 / 10)
	done, took := count.Load()-before, time.Since(began)
	over.Store(true)
	calling.Wait()
	s.rate(int(done), took)
	return errors.Join(errors.Join(failed...), ctx.Err())
}
