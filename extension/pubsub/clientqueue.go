package pubsub

import "sync"

// item is what waits for a subscription's callbacks: a message, an event, or neither,
// for something that only takes room in the window.
type item struct {
	topic   *Topic
	event   *Event
	bytes   int  // of the window
	counted bool // in the window
}

// room is a part of a window.
type room struct{ messages, bytes int }

func (r *room) add(it *item) {
	if it.counted {
		r.messages++
		r.bytes += it.bytes
	}
}

func (r *room) sub(it *item) {
	if it.counted {
		r.messages--
		r.bytes -= it.bytes
	}
}

// inbox holds what a subscription has received and its callbacks are not done with.
// The window bounds it: the server sends no more. Where it does, as an old one that
// knows no windows may, the oldest message makes room.
type inbox struct {
	sub *Subscription // Set by newSubscription, never changed.
	// ready has something when something was pushed, for an iterator. A subscription
	// with callbacks, which are run by a goroutine, has none.
	ready chan struct{}

	mu      sync.Mutex
	window  room
	half    room // how much is given back to the server at a time
	items   []item
	next    int    // items[:next] are taken
	inHand  room   // what was received and is not consumed
	owed    room   // what was consumed and not given back
	lost    uint64 // messages that made room, before the first that is left
	running bool   // a goroutine works on it
	stopped bool   // no callback begins any more
	ending  bool   // nothing is pushed any more

	here item // owned by workHere

	resting chan struct{} // closed when no callback runs; nil: nobody waits for that
	after   func()        // runs then; nil: nothing to do
}

func (q *inbox) init(s *Subscription, window room, pulled bool) {
	q.sub, q.window, q.half = s, window, window.half()
	if pulled {
		q.ready = make(chan struct{}, 1)
	}
}

func (r room) half() room { return room{max(r.messages/2, 1), max(r.bytes/2, 1)} }

// push appends what has arrived.
func (q *inbox) push(it item) { q.pushLast(it, false) }

// pushLast appends what has arrived, last if nothing comes behind it.
func (q *inbox) pushLast(it item, last bool) {
	q.mu.Lock()
	if q.stopped || q.ending || q.tooLong(&it) {
		q.mu.Unlock()
		return
	}
	q.ending = last
	for it.counted && (q.inHand.messages >= q.window.messages || q.inHand.bytes >= q.window.bytes) && q.dropOldest() {
	}
	q.inHand.add(&it)
	q.append(it)
	start := q.ready == nil && !q.running
	q.running = q.running || start
	q.mu.Unlock()
	q.wake()
	if start {
		go workOff(q, nil)
	}
}

// begin reports whether who has received something may handle it at once, being the one
// who works on the queue from now on.
func (q *inbox) begin(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped || q.ending || q.running || q.next < len(q.items) || q.lost > 0 {
		return false
	}
	q.inHand.add(it)
	q.running = true
	return true
}

// wake tells an iterator to look again.
func (q *inbox) wake() {
	if q.ready != nil {
		select {
		case q.ready <- struct{}{}:
		default:
		}
	}
}

// tooLong reports whether there is no room for something that the window does not
// count. Only a server that makes events up gets there.
func (q *inbox) tooLong(it *item) bool {
	return !it.counted && len(q.items)-q.next > 2*q.window.messages+keptItems
}

func (q *inbox) append(it item) {
	if len(q.items) == cap(q.items) && q.next > 0 && q.next*2 >= len(q.items) {
		n := copy(q.items, q.items[q.next:])
		clear(q.items[n:])
		q.items, q.next = q.items[:n], 0
	}
	q.items = append(q.items, it)
}

// dropOldest drops the oldest message that waits. It reports false if there is none.
func (q *inbox) dropOldest() bool {
	for i := q.next; i < len(q.items); i++ {
		if q.items[i].topic == nil {
			continue
		}
		q.inHand.sub(&q.items[i])
		q.owed.add(&q.items[i])
		q.lost++
		q.sub.missed.Add(1)
		copy(q.items[q.next+1:i+1], q.items[q.next:i])
		q.items[q.next] = item{}
		q.next++
		return true
	}
	return false
}

// keptItems is how many places an empty queue keeps.
const keptItems = 64

// take ends the work on done, if that is not nil, and returns what is next. It reports
// false when there is nothing; then nobody works on the queue any more. due says that
// enough was consumed to tell the server.
func (q *inbox) take(done *item) (it item, due, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if done != nil {
		q.inHand.sub(done)
		q.owed.add(done)
	}
	due = q.owed.messages > 0 && (q.owed.messages >= q.half.messages || q.owed.bytes >= q.half.bytes)
	if q.stopped || q.next == len(q.items) {
		q.rest()
		return item{}, due, false
	}
	if q.lost > 0 && q.items[q.next].topic != nil {
		it = item{event: &Event{Kind: EventGap, Missed: q.lost}}
		q.lost = 0
		return it, due, true
	}
	it = q.items[q.next]
	q.items[q.next] = item{}
	q.next++
	return it, due, true
}

// rest ends the work on the queue. Guarded by mu.
func (q *inbox) rest() {
	clear(q.items)
	q.items, q.next, q.running = q.items[:0], 0, false
	if cap(q.items) > keptItems {
		q.items = nil
	}
	if q.resting != nil {
		close(q.resting)
		q.resting = nil
	}
	if q.after != nil {
		go q.after()
		q.after = nil
	}
}

// stop drops what waits, and has no callback begin any more. What it returns is closed
// when none runs; after, if it is not nil, runs then, on a goroutine of its own.
func (q *inbox) stop(after func()) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	if after != nil {
		q.after = after
	}
	return q.rested()
}

// finish has nothing pushed any more. What it returns is closed when what waits is
// worked off.
func (q *inbox) finish() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ending = true
	return q.rested()
}

func (q *inbox) rested() <-chan struct{} {
	q.wake()
	if q.resting == nil {
		q.resting = make(chan struct{})
	}
	resting := q.resting
	if !q.running && (q.stopped || q.next == len(q.items)) {
		q.rest()
	}
	return resting
}

// over reports whether nothing comes any more.
func (q *inbox) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stopped || q.ending && q.next == len(q.items)
}

// remaining starts the accounts of the window anew, for a new subscription on the
// server, and returns what of the window is not taken by what is in hand.
func (q *inbox) remaining() room {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.owed = room{}
	return room{max(q.window.messages-q.inHand.messages, 0), max(q.window.bytes-q.inHand.bytes, 0)}
}

// cut says that the server has made the window smaller; 0: it has not.
func (q *inbox) cut(messages, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.half = q.window.half()
	if messages > 0 {
		q.half.messages = min(q.half.messages, max(messages/2, 1))
	}
	if bytes > 0 {
		q.half.bytes = min(q.half.bytes, max(bytes/2, 1))
	}
}

// takeOwed returns what is to be given back to the server.
func (q *inbox) takeOwed() room {
	q.mu.Lock()
	defer q.mu.Unlock()
	owed := q.owed
	q.owed = room{}
	return owed
}

// owe takes back what takeOwed returned, since the server was not told.
func (q *inbox) owe(r room) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.owed.messages += r.messages
	q.owed.bytes += r.bytes
}

func (q *inbox) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) - q.next
}
