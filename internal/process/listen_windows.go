package process

import "net"

// listen returns where go-plugin's service listens: a port of this machine.
func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
