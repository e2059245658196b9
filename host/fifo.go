package host

// fifo is a queue that keeps its memory.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

// all returns the queue, oldest first; it is valid until the next change.
func (q *fifo[T]) all() []T { return q.items[q.head:] }

func (q *fifo[T]) push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *fifo[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}

// remove takes out the k-th of all.
func (q *fifo[T]) remove(k int) {
	if k == 0 {
		q.pop()
		return
	}
	var zero T
	at := q.head + k
	copy(q.items[at:], q.items[at+1:])
	q.items[len(q.items)-1] = zero
	q.items = q.items[:len(q.items)-1]
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
}

// unpop puts values in front, in their order.
func (q *fifo[T]) unpop(values []T) {
	if len(values) == 0 {
		return
	}
	if q.head >= len(values) {
		q.head -= len(values)
		copy(q.items[q.head:], values)
		return
	}
	items := make([]T, 0, len(values)+q.len()+8)
	q.items, q.head = append(append(items, values...), q.all()...), 0
}

// cut takes out the k-th of all and what follows, and returns a copy of it.
func (q *fifo[T]) cut(k int) []T {
	from := q.head + k
	rest := append([]T(nil), q.items[from:]...)
	clear(q.items[from:])
	q.items = q.items[:from]
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return rest
}
