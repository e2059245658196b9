package top

import (
	"fmt"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
)

// This file draws the page of the nodes of a cluster.

// nodePage draws the page: at most height lines of at most width characters.
func (v *view) nodePage() []string {
	return v.filled(v.nodes([]string{v.title()}), v.nodeKeys())
}

// nodes draws the nodes and streams below some lines.
func (v *view) nodes(lines []string) []string {
	c := v.frame.Cluster
	lines = append(lines, v.nodeHeader()...)
	lines = append(lines, v.goneOrSpace()...)
	nodes, streams := v.nodeRows(), v.streamRows()
	showNodes, showStreams := len(nodes), len(streams)
	var gap []string
	if v.height == 0 || v.height >= 24 {
		gap = []string{""}
	}
	if v.height > 0 {
		// Two titles, and the line of keys.
		rows := max(0, v.height-len(lines)-len(gap)-3)
		showStreams = min(len(streams), max(min(fewRows, rows/2), rows/3))
		showNodes = min(len(nodes), rows-showStreams)
		showStreams = min(len(streams), rows-showNodes)
	}
	first := max(0, min(v.nodeOffset, len(nodes)-showNodes))
	title := "NODES"
	if showNodes < len(c.Nodes) {
		title = fmt.Sprintf("NODES %d-%d of %d", min(first+1, first+showNodes), first+showNodes, len(c.Nodes))
	}
	lines = append(lines, v.nodeTitle(title))
	lines = append(lines, nodes[first:first+showNodes]...)
	lines = append(lines, gap...)
	lines = append(lines, v.streamTitle())
	return append(lines, streams[:showStreams]...)
}

// nodeHeader says what the server does as a node.
func (v *view) nodeHeader() []string {
	c, t := v.frame.Cluster, v.theme
	var plain lipgloss.Style
	say := func(format string, args ...any) cell { return cell{fmt.Sprintf(format, args...), plain} }
	warn := func(text string, f Figure) cell {
		x := say("%s %s", text, count(f))
		if f > 0 {
			x.style = t.warn
		}
		return x
	}
	lease := cell{"lease " + none, plain}
	switch {
	case c.Lease > 0:
		lease = cell{"lease held, " + seconds(c.LeaseAge) + " old", t.good}
	case c.Lease == 0:
		lease = cell{"NO LEASE", t.bad}
		if c.LeaseAge.known() {
			lease.text += " for " + seconds(c.LeaseAge-1)
		}
	}
	members := []cell{lease, say("slots %s", count(c.Slots)), say("taken over %s", count(c.TakeOver)),
		say("members %s", count(c.Members)), warn("draining", c.Draining), warn("died", c.Deaths)}

	forwarded := []cell{say("forwarded %s/s", rate(c.Forwarded.sum()))}
	for _, outcome := range []string{"answered", "moved", "unreached", "lost"} {
		x := say("%s %s/s", outcome, rate(c.Forwarded.get(outcome)))
		if outcome != "answered" && c.Forwarded.get(outcome) > 0 {
			x.style = t.warn
		}
		forwarded = append(forwarded, x)
	}

	var stored []cell
	if c.Healthy == 0 {
		stored = append(stored, cell{"NOTHING IS STORED", t.bad})
	}
	stored = append(stored, say("batches %s/s of %s writes", rate(c.Batches), rate(c.Writes)),
		say("p50 %s", seconds(c.P50)), say("p99 %s", seconds(c.P99)), warn("doubts", c.Doubts),
		warn("refused", c.Refused), warn("failed", c.Failed))
	return []string{line(v.width, members...), line(v.width, forwarded...), line(v.width, stored...),
		line(v.width, v.targetCells()...)}
}

// hashWidth is how much of a core's hash is shown.
const hashWidth = 12

// targetCells says which core is the target, and how many nodes lack it.
func (v *view) targetCells() []cell {
	c, t := v.frame.Cluster, v.theme
	if !c.Target.Generation.known() {
		return []cell{{"target core " + none, t.faint}}
	}
	lacking, others := 0, 0
	for k := range c.Nodes {
		switch n := &c.Nodes[k]; {
		case !slices.Contains(n.Cores, c.Target.Core):
			lacking++
		case n.Cores[0] != c.Target.Core:
			others++
		}
	}
	short := func(hash string) string { return hash[:min(len(hash), hashWidth)] }
	cells := []cell{{fmt.Sprintf("target core %s, generation %s", short(c.Target.Core), count(c.Target.Generation)),
		lipgloss.Style{}}}
	if c.Target.InForce {
		cells = append(cells, cell{"in force", t.good})
	} else {
		cells = append(cells, cell{"announced", t.warn})
	}
	if lacking > 0 {
		cells = append(cells, cell{fmt.Sprintf("without it %d", lacking), t.bad})
	}
	if others > 0 {
		cells = append(cells, cell{fmt.Sprintf("run another %d", others), t.warn})
	}
	if !c.Target.InForce {
		cells = append(cells, cell{"in force " + short(c.Target.Former), t.faint})
	}
	return cells
}

// The widths of the columns of nodes and streams. Addresses and names may be longer, and are cut.
const (
	addressWidth = 21
	stateWidth   = 9
	countWidth   = 6
	versionWidth = 12
	streamWidth  = 21
	serverWidth  = 8
)

// heading returns the title of a column.
func (v *view) heading(text string, width int, isLeft bool) cell {
	return padded(cell{text, v.theme.strong}, width, isLeft)
}

func (v *view) nodeTitle(title string) string {
	cells := []cell{v.heading(title, addressWidth, true), v.heading("STATE", stateWidth, true),
		v.heading("SLOTS", countWidth, false), v.heading("VERSION", versionWidth, true), {"ID", v.theme.strong}}
	if v.frame.Cluster.Err != "" {
		cells = []cell{{title, v.theme.strong}, {"not known: " + v.frame.Cluster.Err, v.theme.warn}}
	}
	return line(v.width, cells...)
}

func (v *view) nodeRows() (rows []string) {
	var plain lipgloss.Style
	c := v.frame.Cluster
	for k := range c.Nodes {
		n := &c.Nodes[k]
		state := cell{"alive", v.theme.good}
		switch {
		case n.Draining:
			state = cell{"draining", v.theme.warn}
		case n.Address == c.Self:
			state.text = "this node"
		}
		rows = append(rows, line(v.width, padded(cell{n.Address, plain}, addressWidth, true),
			padded(state, stateWidth, true),
			padded(cell{count(n.Slots), plain}, countWidth, false), padded(cell{n.Version, plain}, versionWidth, true),
			cell{n.ID, v.theme.faint}))
	}
	return rows
}

func (v *view) streamTitle() string {
	cells := []cell{v.heading("STREAMS", streamWidth, true), v.heading("LEADER", serverWidth, true),
		v.heading("MSGS", countWidth, false), v.heading("BYTES", countWidth, false), {"REPLICAS", v.theme.strong}}
	if a := v.frame.Cluster.AskedAge; a >= 1 {
		cells = append(cells, cell{"as of " + span(a) + " ago", v.theme.faint})
	}
	return line(v.width, cells...)
}

func (v *view) streamRows() (rows []string) {
	var plain lipgloss.Style
	for k := range v.frame.Cluster.Streams {
		s := &v.frame.Cluster.Streams[k]
		name := padded(cell{s.Name, plain}, streamWidth, true)
		if s.Leader == "" {
			rows = append(rows, line(v.width, name, cell{"NO LEADER: " + s.Error, v.theme.bad}))
			continue
		}
		rows = append(rows, line(v.width, name, padded(cell{s.Leader, plain}, serverWidth, true),
			padded(cell{count(s.Messages), plain}, countWidth, false),
			padded(cell{bytesOf(s.Bytes), plain}, countWidth, false), v.replicas(s)))
	}
	return rows
}

// replicas says how the replicas of a stream are, in the style of the worst of them.
func (v *view) replicas(s *Stream) cell {
	var offline, behind, current []string
	for _, r := range s.Replicas {
		switch {
		case r.Offline:
			offline = append(offline, r.Server+" OFFLINE")
		case !r.Current:
			behind = append(behind, fmt.Sprintf("%s behind by %s", r.Server, count(r.Lag)))
		default:
			current = append(current, r.Server+" current")
		}
	}
	// The worst are first, because the end is cut if there is no room.
	all := cell{strings.Join(slices.Concat(offline, behind, current), ", "), v.theme.good}
	switch {
	case len(offline) > 0:
		all.style = v.theme.bad
	case len(behind) > 0:
		all.style = v.theme.warn
	case len(current) == 0:
		return cell{"none", v.theme.faint}
	}
	return all
}

func (v *view) nodeKeys() string {
	return line(v.width, cell{"q quit", v.theme.faint}, cell{"p pause", v.theme.faint},
		cell{"n workers", v.theme.faint},
		cell{"↑/↓ scroll", v.theme.faint}, cell{"? help", v.theme.faint})
}
