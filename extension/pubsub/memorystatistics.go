package pubsub

// MemoryStatistics says what a MemoryBroker has, and has done since it was made.
type MemoryStatistics struct {
	Topics, Messages int    // kept
	Bytes            int64  // of memory for them, about
	Evicted          uint64 // messages no longer kept
	Doubles          uint64 // messages not delivered, since their ID was known

	// Messages that queue groups without acknowledgement dropped, since no member had
	// room and too many waited; that others did not get, since they were evicted
	// first; and how often these delivered a message again.
	GroupDropped, GroupLost, GroupRedelivered uint64
}

// Statistics returns what there is now. What is over its age may still be counted, for
// a little while.
func (b *MemoryBroker) Statistics() MemoryStatistics {
	s := MemoryStatistics{
		Doubles:          b.counts.doubles.Load(),
		GroupDropped:     b.counts.dropped.Load(),
		GroupLost:        b.counts.lost.Load(),
		GroupRedelivered: b.counts.redelivered.Load(),
	}
	b.keptLane.mu.Lock()
	defer b.keptLane.mu.Unlock()
	s.Evicted = b.kept.evicted
	for _, r := range b.kept.rules {
		s.Topics += r.recent.Len()
		s.Messages += r.messages
		s.Bytes += r.bytes
	}
	return s
}
