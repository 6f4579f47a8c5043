package proto

import (
	"encoding/hex"
	"math"
)

const published = 1763743200123456789 // Unix time in nanoseconds

func hexOf(s string) string { return hex.EncodeToString([]byte(s)) }

// written is a vector of what Append writes.
func written(name, note, record string, fields any) vector {
	return vector{Name: name, Note: note, Record: record, Fields: fields, Hex: hex.EncodeToString(encode(fields))}
}

// raw is a vector of bytes that nothing of ours would write.
func raw(name, note, record, body string) vector {
	v := vector{Name: name, Note: note, Record: record, Hex: hexOf(body)}
	fields, _, err := decode(record, []byte(body))
	if err != nil {
		v.Malformed = err.Error()
		return v
	}
	v.Fields, v.ReadOnly = fields, true
	return v
}

func vectors() (all []vector) {
	all = append(all, deliveries()...)
	all = append(all, publications()...)
	all = append(all, openings()...)
	all = append(all, notes()...)
	all = append(all, presences()...)
	return append(all, oldTopics()...)
}

func deliveries() []vector {
	return []vector{
		written("literal", "no history, and the filter is the topic", "Delivered",
			&deliveredFields{Topic: "orders.created", TimeNS: published, DataHex: hexOf(`{"id":7}`)}),
		written("with-offset", "of a topic with history", "Delivered",
			&deliveredFields{Offset: 300, Topic: "orders.created", TimeNS: published, DataHex: hexOf("x")}),
		written("wildcard", "all that have subscribed to the filter get these bytes", "Delivered",
			&deliveredFields{Filter: "orders.*", Offset: 301, Topic: "orders.paid", TimeNS: published}),
		written("group", "to one member of a group, to be acknowledged, for the second time", "Delivered",
			&deliveredFields{Number: 3, Offset: 302, Key: "customer 9", Tag: 128, Attempt: 2, Topic: "orders.paid", TimeNS: published, DataHex: hexOf("y")}),
		written("before-1970", "times are signed", "Delivered",
			&deliveredFields{Topic: "t", TimeNS: -1, DataHex: "00ff"}),
		written("largest", "all that the numbers hold", "Delivered",
			&deliveredFields{Filter: ">", Number: math.MaxUint64, Offset: math.MaxUint64, Key: "k", Tag: math.MaxUint64, Attempt: math.MaxUint64, Topic: "t", TimeNS: math.MinInt64}),
		raw("flag-of-nothing", "a flag whose part is zero is as none", "Delivered", "\x05\x00\x00\x01t\x02"),
		raw("long-number", "numbers may have more bytes than they need", "Delivered", "\x04\x87\x80\x00\x01t\x02d"),
		raw("no-flags", "", "Delivered", ""),
		raw("no-topic", "", "Delivered", "\x00\x00\x02d"),
		raw("unknown-flag", "it would say what follows", "Delivered", "\x40\x01t\x02"),
		raw("topic-cut", "", "Delivered", "\x00\x05top"),
		raw("time-missing", "", "Delivered", "\x00\x01t"),
		raw("number-of-65-bits", "", "Delivered", "\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x01t\x02"),

		written("first", "number, messages, bytes", "Consumed", &consumedFields{Number: 3, Messages: 512, Bytes: 524288}),
		raw("cut", "", "Consumed", "\x03\x01"),
		raw("more", "", "Consumed", "\x03\x01\x01\x01"),

		written("acknowledged", "", "Settled", &settledFields{Number: 3, Acknowledged: true, Tag: 128}),
		written("given-back", "", "Settled", &settledFields{Number: 3, Tag: 129}),
		raw("outcome", "", "Settled", "\x03\x02\x01"),
	}
}

func publications() []vector {
	return []vector{
		written("plain", "", "Publication", &publicationFields{Topic: "orders.created", TimeNS: published, DataHex: hexOf(`{"id":7}`)}),
		written("full", "", "Publication", &publicationFields{ToOne: true, Topic: "orders.created", Key: "customer 9", ID: "7c1f", TimeNS: published, DataHex: "00"}),
		written("key", "", "Publication", &publicationFields{Topic: "t", Key: "k", TimeNS: published}),
		raw("no-topic", "", "Publication", "\x00\x00\x02d"),
		raw("unknown-flag", "", "Publication", "\x08\x01t\x02"),
		raw("nothing", "", "Publication", ""),

		written("three", "the length of each is four bytes, little-endian", "Batch", &batchFields{[]publicationFields{
			{Topic: "t", TimeNS: published, DataHex: "01"}, {ToOne: true, Topic: "t", TimeNS: published}, {Topic: "u", ID: "7", TimeNS: published},
		}}),
		written("one", "", "Batch", &batchFields{[]publicationFields{{Topic: "t", TimeNS: published}}}),
		raw("length-cut", "", "Batch", "\x05\x00\x00"),
		raw("message-cut", "", "Batch", "\x05\x00\x00\x00\x00\x01t\x02"),
		raw("message-malformed", "what follows it is of use", "Batch", "\x01\x00\x00\x00\x08\x04\x00\x00\x00\x00\x01t\x02"),

		written("none", "the topic has no history", "Position", &positionFields{}),
		written("some", "", "Position", &positionFields{Epoch: "4a9d", Offset: 300}),
		raw("more", "", "Position", "\x01e\x02\x03"),
		raw("cut", "", "Position", "\x05e"),
	}
}

func openings() []vector {
	return []vector{
		written("plain", "", "Opening", &openingFields{Number: 1, Filter: "orders.created", WindowMessages: 1024, WindowBytes: 1048576}),
		written("again", "after a cut: behind what was received, with the rest of the window", "Opening",
			&openingFields{Number: 9, Filter: "orders.>", WindowMessages: 0, WindowBytes: 700, Start: StartAfter, Epoch: "4a9d", Offset: 300}),
		written("full", "", "Opening", &openingFields{
			Number: 2, Filter: "orders.*", Group: "billing", Ack: true, AckWaitUS: 30_000_000, MaxPending: 100,
			WindowMessages: 64, WindowBytes: 65536, Policy: PolicyKeepLatest, QueueMessages: 1000, QueueBytes: 1 << 20,
			Start: StartSince, TimeNS: published, Events: true, MemberID: "till 7", MemberInfoHex: hexOf(`{"floor":2}`),
		}),
		raw("unknown-field", "skipped", "Opening", "\x7f\x01x\x01\x01\x05\x02\x01t"),
		raw("field-twice", "the last counts", "Opening", "\x02\x01a\x01\x01\x05\x02\x01b"),
		raw("no-number", "", "Opening", "\x02\x01t"),
		raw("number-0", "", "Opening", "\x01\x01\x00\x02\x01t"),
		raw("no-filter", "", "Opening", "\x01\x01\x05"),
		raw("number-cut", "", "Opening", "\x01\x01\x85\x02\x01t"),
		raw("field-cut", "", "Opening", "\x01\x01\x05\x02\x05t"),

		written("nothing", "no history, the window as asked", "Opened", &openedFields{}),
		written("full", "", "Opened", &openedFields{Recovered: true, Epoch: "4a9d", Offset: 310, WindowMessages: 512, WindowBytes: 65536}),

		written("close", "", "Number", &numberFields{300}),
		raw("more", "", "Number", "\x01\x01"),
	}
}

func notes() []vector {
	return []vector{
		written("started", "the first thing that a subscription sends", "Noted", &notedFields{Number: 9, Kind: NoteStarted, Recovered: true, Epoch: "4a9d", Offset: 300}),
		written("started-with-a-loss", "history was too short: it goes on from 305", "Noted", &notedFields{Number: 9, Kind: NoteStarted, Epoch: "4a9d", Offset: 305}),
		written("gap", "", "Noted", &notedFields{Number: 9, Kind: NoteGap, Count: 12}),
		written("interrupted", "", "Noted", &notedFields{Number: 9, Kind: NoteInterrupted, Code: 14, Text: "the broker is out of reach"}),
		written("resumed", "", "Noted", &notedFields{Number: 9, Kind: NoteResumed, Epoch: "77b0", Offset: 4}),
		written("joined", "to all that have subscribed to the filter and want to know", "Noted", &notedFields{Filter: "room.*", Kind: NoteJoined, Member: memberFields{ID: "ann", InfoHex: hexOf("hi"), Client: "10.0.0.7:4711", Filter: "room.7"}}),
		written("left", "", "Noted", &notedFields{Filter: "room.*", Kind: NoteLeft, Member: memberFields{ID: "ann", Client: "10.0.0.7:4711", Filter: "room.7"}}),
		written("ended", "", "Noted", &notedFields{Number: 9, Kind: NoteEnded, Code: 7, Text: "not allowed any more"}),
		written("live", "", "Noted", &notedFields{Number: 9, Kind: NoteLive, Epoch: "4a9d", Offset: 310}),
		raw("kind-of-the-future", "skipped by who gets it", "Noted", "\x01\x01\x09\x03\x01\x63"),
		raw("member-cut", "", "Noted", "\x01\x01\x09\x03\x01\x05\x0a\x02\x01\x05"),
	}
}

func presences() []vector {
	ann := memberFields{ID: "ann", InfoHex: hexOf("hi"), Client: "10.0.0.7:4711", Filter: "room.7"}
	return []vector{
		written("nobody", "", "Members", &membersFields{}),
		written("two", "", "Members", &membersFields{Members: []memberFields{ann, {ID: "bob"}}}),
		raw("unknown-field", "skipped", "Members", "\x02\x01x\x01\x00"),
		raw("cut", "", "Members", "\x01\x05\x01"),

		written("joined", "", "Announced", &announcedFields{Kind: AnnounceJoined, Server: "n1", Revision: 8, Members: []memberFields{ann}}),
		written("alive", "", "Announced", &announcedFields{Kind: AnnounceAlive, Server: "n1", Revision: 8}),
		written("wanted", "", "Announced", &announcedFields{Kind: AnnounceWanted, Server: "n2", To: "n1"}),
		written("all", "", "Announced", &announcedFields{Kind: AnnounceAll, Server: "n1", Revision: 9, Members: []memberFields{ann, {ID: "bob", Filter: "room.>"}}}),
		raw("no-server", "", "Announced", "\x01\x01\x03"),
	}
}

func oldTopics() []vector {
	return []vector{
		written("captured", "as a deployed peer publishes", "Topic", &topicFields{DataHex: hexOf("to all"), Name: "Broadcast", TimeNS: 1795189854985976923}),
		written("subscribe", "no data", "Topic", &topicFields{Name: "Broadcast", TimeNS: published}),
		raw("short", "", "Topic", "123456789"),
		raw("no-name", "", "Topic", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		raw("name-longer-than-there-is", "", "Topic", "abc\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		raw("name-too-long", "", "Topic", "abc\x01\x04\x00\x00\x00\x00\x00\x00\x00\x00"),
	}
}
