package host

// worker is a worker process. The machines only tell one from another.
type worker struct {
	id int
}
