package pubsub

// fifo is a queue in memory that shrinks when it is worked off. The zero fifo is
// empty.
type fifo[T any] struct {
	items []T // the first head of them are gone
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

// at returns one of len items, 0 being the oldest.
func (q *fifo[T]) at(i int) T { return q.items[q.head+i] }

func (q *fifo[T]) push(item T) {
	if len(q.items) == cap(q.items) && q.head > 0 && q.head >= len(q.items)/2 {
		q.moveDown()
	}
	q.items = append(q.items, item)
}

// moveDown makes room behind the items, and gives memory back if there is much more
// than they need.
func (q *fifo[T]) moveDown() {
	live := q.items[q.head:]
	if cap(q.items) > 4*len(live)+minFifo {
		q.items = append(make([]T, 0, 2*len(live)), live...)
	} else {
		copy(q.items, live)
		clear(q.items[len(live):])
		q.items = q.items[:len(live)]
	}
	q.head = 0
}

// minFifo is a capacity that is not worth giving back.
const minFifo = 16

func (q *fifo[T]) pop() T {
	item := q.items[q.head]
	clear(q.items[q.head : q.head+1])
	q.head++
	switch {
	case q.head < len(q.items):
	case cap(q.items) > minFifo:
		*q = fifo[T]{}
	default:
		q.items, q.head = q.items[:0], 0
	}
	return item
}
