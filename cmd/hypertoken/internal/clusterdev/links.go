package clusterdev

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
)

// With Options.Links, processes reach each other through this process only. For each ordered pair of
// them there is a door: an address at which this process listens, which only the first of the two knows, and
// from which it passes everything on to the second one. So each direction between them can be cut, as
// a network does it. Clients of nodes do not come through doors.

// doors returns how many doors there are.
func (o *Options) doors() int {
	return o.Servers*(o.Servers-1) + o.Nodes*(o.Servers+o.Nodes-1)
}

// links are all ways from one process to another.
type links struct {
	mu   sync.Mutex // guards the fields below
	cuts map[link]*cut
	// began is closed when the next cut begins.
	began chan struct{}
}

func newLinks() *links {
	return &links{cuts: map[link]*cut{}, began: make(chan struct{})}
}

// link is one direction between two processes.
type link struct{ from, to string }

// back returns the other direction.
func (k link) back() link { return link{k.to, k.from} }

// cut is a cut of one link.
type cut struct {
	// resets is true if connections are reset. Otherwise their bytes are held.
	resets bool
	healed chan struct{} // closed at the end of the cut
}

// begin cuts links until heal.
func (l *links) begin(list []link, resets bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range list {
		if l.cuts[k] == nil {
			l.cuts[k] = &cut{resets: resets, healed: make(chan struct{})}
		}
	}
	close(l.began)
	l.began = make(chan struct{})
}

// heal ends all cuts.
func (l *links) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.cuts {
		close(c.healed)
	}
	clear(l.cuts)
}

// of returns the cut of a link, nil if it is not cut.
func (l *links) of(k link) *cut {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts[k]
}

// resets reports whether connections between the two processes of a link are reset. If they are not,
// next is closed at the next cut.
func (l *links) resets(k link) (resets bool, next <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range []link{k, k.back()} {
		if c := l.cuts[k]; c != nil && c.resets {
			return true, nil
		}
	}
	return false, l.began
}

// door is where one process reaches another one while that one runs.
type door struct {
	links   *links
	link    link
	public  string // where the door listens
	private string // where the process does

	listener net.Listener
	ended    chan struct{} // closed when the process has ended
	passing  sync.WaitGroup
}

// openAll opens doors. If one can't be opened, it closes the others.
func openAll(doors []*door) error {
	for k, d := range doors {
		if err := d.open(); err != nil {
			closeAll(doors[:k])
			return err
		}
	}
	return nil
}

func closeAll(doors []*door) {
	for _, d := range doors {
		d.close()
	}
}

// open lets connections in.
func (d *door) open() (err error) {
	if d.listener, err = net.Listen("tcp", d.public); err != nil {
		return fmt.Errorf("the address at which %s reaches %s: %w", d.link.from, d.link.to, err)
	}
	d.ended = make(chan struct{})
	d.passing.Go(func() {
		for {
			in, err := d.listener.Accept()
			if err != nil {
				return
			}
			d.passing.Go(func() { d.pass(in) })
		}
	})
	return nil
}

// close lets no connection in any more, ends all, and returns when they have ended. The process has
// ended.
func (d *door) close() {
	close(d.ended)
	_ = d.listener.Close()
	d.passing.Wait()
}

// pass passes a connection on, until one of its ends closes it, the process ends, or a cut resets it.
func (d *door) pass(in net.Conn) {
	defer in.Close()
	if resets, _ := d.links.resets(d.link); resets {
		reset(in)
		return
	}
	if !d.wait() {
		return
	}
	out, err := net.Dial("tcp", d.private)
	if err != nil {
		reset(in)
		return
	}
	defer out.Close()
	var copying sync.WaitGroup
	ends := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	over := make(chan struct{}) // closed when the connection ends, for what is held
	copying.Go(func() {
		defer close(ends[0])
		d.copy(out, in, d.link, over)
	})
	copying.Go(func() {
		defer close(ends[1])
		d.copy(in, out, d.link.back(), over)
	})
	d.untilOver(in, out, ends)
	close(over)
	_, _ = in.Close(), out.Close()
	copying.Wait()
}

// untilOver returns once a connection is to end. If a cut resets it, it does so.
func (d *door) untilOver(in, out net.Conn, ends [2]chan struct{}) {
	for {
		resets, next := d.links.resets(d.link)
		if resets {
			reset(in)
			reset(out)
			return
		}
		select {
		case <-ends[0]:
			return
		case <-ends[1]:
			return
		case <-d.ended:
			return
		case <-next:
		}
	}
}

// reset ends a connection such that the other end gets an error at once.
func reset(c net.Conn) {
	if c, ok := c.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = c.Close()
}

// wait waits until nothing is held on the way to the process. It returns false if the process has ended
// before.
func (d *door) wait() bool {
	for {
		c := d.links.of(d.link)
		if c == nil {
			return true
		}
		select {
		case <-c.healed:
		case <-d.ended:
			return false
		}
	}
}

// copy copies bytes in one direction. While the link is cut, it holds them, and the end of the connection,
// too.
func (d *door) copy(to io.Writer, from io.Reader, k link, over <-chan struct{}) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		for c := d.links.of(k); c != nil; c = d.links.of(k) {
			select {
			case <-c.healed:
			case <-over:
				return
			}
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// ways are the addresses at which this process reaches others, by their own addresses.
var ways = map[string]string{}

// readWays reads the value of waysVariable.
func readWays(list string) {
	for pair := range slices.Chunk(strings.Split(list, ","), 2) {
		if len(pair) == 2 {
			ways[pair[0]] = pair[1]
		}
	}
}

// Way returns the address at which this process reaches another node of its cluster: the address
// itself, except in a process that [Start] has started with Options.Links.
func Way(address string) string {
	if way, ok := ways[address]; ok {
		return way
	}
	return address
}

// errNoLinks is returned for cuts of a cluster that was started without Options.Links.
var errNoLinks = errors.New("the processes reach each other without links")

// Cut lets nothing through from some processes to others, until [Cluster.Heal]. If resets is true, all
// connections between them are reset, and so are new ones, which cuts both directions. Otherwise what is
// sent is held, and arrives after the cut. A connection that is made meanwhile is accepted, as a proxy
// does it, and no byte of it passes. It needs Options.Links.
func (c *Cluster) Cut(some, others []string, resets bool) error {
	if !c.o.Links {
		return errNoLinks
	}
	var list []link
	for _, from := range some {
		for _, to := range others {
			list = append(list, link{from, to})
		}
	}
	for _, name := range slices.Concat(some, others) {
		if _, err := c.find(name); err != nil {
			return err
		}
	}
	c.links.begin(list, resets)
	return nil
}

// Heal ends all cuts.
func (c *Cluster) Heal() { c.links.heal() }
