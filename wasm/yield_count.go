package wasm

// function is a function that was read.
type function struct {
	groups   uint64 // the number of groups of locals in declared
	declared []byte // the declarations of its locals
	ranged   bool   // whether it has a local of ours
	// from and to bound its code. sites and calls are the indexes of its first site and of its
	// first call. The first site of a function is its entry.
	from, to, sites, calls int

	visit   visit
	counted bool // whether it counts at its entry
	// cost is how many bytes of code a call of it adds to the caller's site; 0 if it counts at its
	// entry.
	cost int
}

type visit byte

const (
	unseen visit = iota
	opened
	done
)

// count decides which functions count at their entry, and how much each site counts. Three kinds
// of functions count: those that may be called through a table, those that close a cycle of calls,
// and those that cost more than maxCost. So each cycle has a function that counts. The cost of any
// other function is added to the sites that call it.
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

// settle adds the costs of the called functions to the sites of a function. Each of the called
// functions is settled already, or counts at its entry.
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
