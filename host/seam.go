package host

import (
	"hypertoken/internal/driver"
	"hypertoken/internal/payload"
	"hypertoken/internal/seam"
)

// Package cluster needs some of the insides of a host.

var _ seam.Engine = (*driver.Driver)(nil)

func init() {
	seam.Wrap = func(h any, e seam.Engine) any { return &Engine{host: h.(*Host), seam: e} }
	seam.Behind = func(e any) seam.Engine { return e.(*Engine).seam }
	seam.Payloads = func(h any) payload.Limits { return h.(*Host).options.payloads() }
	seam.Prepare = func(host any, name string, options any) (seam.Opening, error) {
		h, o := host.(*Host), options.(EngineOptions)
		base, err := h.prepare(name, &o)
		opening := seam.Opening{Base: base, Options: h.options.forEngine(&o), Timeout: o.Timeout}
		if o.Timeout == 0 {
			opening.Timeout = h.options.Timeout
		}
		opening.Timeout = max(opening.Timeout, 0)
		return opening, err
	}
}
