package clusterdev

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Free ports are looked for here. No system takes ports of this range for connections by itself, so a
// port stays free while its process is restarted.
const (
	leastPort = 20_000
	mostPort  = 29_999
	// Doors have a range of their own: they are many, and whatever else looks for ports in the range above
	// must not find one of them that is closed at the moment.
	leastDoor = 10_000
	mostDoor  = 19_999
)

// chooseDoors returns n ports for doors, on which nobody listens.
func chooseDoors(n int) ([]int, error) { return freePorts(leastDoor, mostDoor, n) }

// choosePorts returns n ports on which nobody listens: those from first on, or others if first is 0.
func choosePorts(first, n int) (ports []int, err error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	if first > 0 {
		for port := first; port < first+n; port++ {
			l, err := net.Listen("tcp", loopback(port))
			if err != nil {
				return nil, fmt.Errorf("--listen-from: %d ports from %d on are needed, choose another one, or none: %w", n, first,
					err)
			}
			open, ports = append(open, l), append(ports, port)
		}
		return ports, nil
	}
	return freePorts(leastPort, mostPort, n)
}

// freePorts returns n ports of a range on which nobody listens.
func freePorts(least, most, n int) (ports []int, err error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for range most - least {
		if len(ports) == n {
			return ports, nil
		}
		port := least + rand.IntN(most-least+1)
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		open, ports = append(open, l), append(ports, port)
	}
	return nil, errors.New("no ports are free: name the first one of a range in --listen-from")
}
