package process

import "net"

// listen returns the listener of go-plugin's service: a TCP port that only this machine can reach.
func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
