package wasm

// function is a function that was read.
type function struct {
	groups   uint64 // of its locals, as declared has them
	declared []byte
	ranged   bool // whether it has a local of ours
	// from and to are its code, sites and calls its first ones: of a function's own sites the first is its entry.
	from, to, sites, calls int

	visit   visit
	counted bool
	// cost is what a call of it costs, in bytes of code: nothing where it counts itself.
	cost int
}

type visit byte

const (
	unseen visit = iota
	opened
	done
)

// count decides which functions count at their entry, and what each site counts for. A function
// that is called by way of a table counts, one that others of a cycle of calls come back to, and
// one that costs more than maxCost. So each cycle has one that counts, and the others' costs add
// up.
func (c *bodyWriter) count() {
	for k := range c.functions {
		c.functions[k].counted = c.w.taken[k]
	}
	type step struct{ function, call int }
	var path []step
	for k := range c.functions {
		if c.functions[k].visit != unseen {
			continue
		}
		path = append(path, step{k, c.functions[k].calls})
		for c.functions[k].visit = opened; len(path) > 0; {
			at := &path[len(path)-1]
			if at.call == c.endOfCalls(at.function) {
				c.settle(at.function)
				path = path[:len(path)-1]
				continue
			}
			f := int(c.calls[at.call].function)
			at.call++
			switch c.functions[f].visit {
			case unseen:
				c.functions[f].visit = opened
				path = append(path, step{f, c.functions[f].calls})
			case opened:
				c.functions[f].counted = true
			}
		}
	}
}

func (c *bodyWriter) endOfCalls(k int) int {
	if k+1 < len(c.functions) {
		return c.functions[k+1].calls
	}
	return len(c.calls)
}

func (c *bodyWriter) sitesOf(k int) []site {
	if k+1 < len(c.functions) {
		return c.sites[c.functions[k].sites:c.functions[k+1].sites]
	}
	return c.sites[c.functions[k].sites:]
}

// settle adds to the sites of a function what they call. All that is settled before, or counts.
func (c *bodyWriter) settle(k int) {
	f := &c.functions[k]
	f.visit = done
	for _, call := range c.calls[f.calls:c.endOfCalls(k)] {
		c.sites[call.site].bytes += c.functions[call.function].cost
	}
	f.cost = c.sites[f.sites].bytes
	if f.counted = f.counted || f.cost > maxCost; f.counted {
		f.cost = 0
	}
}

// write returns the functions, one after the other.
func (c *bodyWriter) write() []byte {
	b := make([]byte, 0, len(c.code)+len(c.code)/8)
	for k := range c.functions {
		f, sites := &c.functions[k], c.sitesOf(k)
		for _, s := range sites[1:] {
			putWeight(c.code[s.at:], s.bytes)
		}
		var local, charge, check []byte
		groups := uint32(f.groups)
		if f.ranged {
			local, groups = []byte{1, typeI32}, groups+1
		}
		if f.counted {
			putWeight(c.charge[c.weightAt:], sites[0].bytes)
			charge, check = c.charge, c.check
		}
		parts := [...][]byte{appendNumber(nil, groups), f.declared, local, charge, check, c.code[f.from:f.to]}
		size := 0
		for _, p := range parts {
			size += len(p)
		}
		b = appendNumber(b, uint32(size))
		for _, p := range parts {
			b = append(b, p...)
		}
	}
	return b
}

// putWeight sets the constant by which a site counts down.
func putWeight(at []byte, bytes int) { appendPadded(at[:0], uint32(min(1+bytes/yieldUnit, maxWeight))) }
