package ipc

// WriteAll writes b in a goroutine of its own, which ends with the write or when the pipe is
// closed.
func (p *Pipe) WriteAll(b []byte, done func(error)) { go func() { done(p.write(b)) }() }
