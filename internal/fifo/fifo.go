// Package fifo is a first-in, first-out queue that keeps its memory.
package fifo

// Queue is a queue of values. The zero Queue is empty and ready to use. It is not safe for concurrent use.
type Queue[T any] struct {
	items []T
	head  int
}

// Len returns how many values the queue has.
func (q *Queue[T]) Len() int { return len(q.items) - q.head }

// Cap returns how many values the queue has memory for.
func (q *Queue[T]) Cap() int { return cap(q.items) }

// All returns the values, oldest first. The slice is valid until the queue is changed.
func (q *Queue[T]) All() []T { return q.items[q.head:] }

// Push adds a value at the end.
func (q *Queue[T]) Push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// Pop takes out the oldest value. The queue must not be empty.
func (q *Queue[T]) Pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}

// Remove takes out the k-th value of All.
func (q *Queue[T]) Remove(k int) {
	if k == 0 {
		q.Pop()
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

// PushFront puts values in front of all others, in their order.
func (q *Queue[T]) PushFront(values []T) {
	if len(values) == 0 {
		return
	}
	if q.head >= len(values) {
		q.head -= len(values)
		copy(q.items[q.head:], values)
		return
	}
	items := make([]T, 0, len(values)+q.Len()+8)
	q.items, q.head = append(append(items, values...), q.All()...), 0
}

// CutFrom takes out the k-th value of All and all that follow it, and returns a copy of them.
func (q *Queue[T]) CutFrom(k int) []T {
	from := q.head + k
	rest := append([]T(nil), q.items[from:]...)
	clear(q.items[from:])
	q.items = q.items[:from]
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return rest
}
