package wire_test

import (
	"encoding/hex"
	"strings"

	"github.com/arpc-go/arpc/internal/wire"
)

const (
	up   = "client->server" // the client dialled
	down = "server->client"

	cancelStream  = wire.CmdCancel | wire.StreamEnd
	openerStream  = wire.CmdStream | wire.StreamOpener
	openerEnd     = openerStream | wire.StreamEnd
	openerCancel  = cancelStream | wire.StreamOpener
	openerWindow  = wire.CmdWindow | wire.StreamOpener
	acknowledging = wire.CmdGoAway | wire.StreamEnd
)

func ref[T any](v T) *T { return &v }

func hexOf(s string) string { return hex.EncodeToString([]byte(s)) }

// raw is a frame that no encoder of ours would write: rest follows the method.
func raw(v vector2, rest string) vector2 {
	h := wire.Header{Reserved: v.Reserved, Cmd: v.Cmd, Flag: v.Flag, Seq: v.Seq}
	v.FrameHex = hex.EncodeToString(wire.AppendFrame(nil, h, v.Method, rest))
	return v
}

func scenarios2() (all []scenario2) {
	all = append(all, hellos2()...)
	all = append(all, calls2()...)
	all = append(all, errors2()...)
	all = append(all, cancels2()...)
	all = append(all, streams2()...)
	all = append(all, goAways2()...)
	all = append(all, tolerated2()...)
	return append(all, malformed2()...)
}

func hellos2() []scenario2 {
	ping := func(h hello2) vector2 { return vector2{Dir: up, Cmd: wire.CmdPing, Hello: &h} }
	pong := func(h hello2) vector2 { return vector2{Dir: down, Cmd: wire.CmdPong, Hello: &h} }
	client := hello2{
		Features: 15, MaxBody: 67108848, MaxInflight: 10000, MaxStreams: 1000, Window: 262144,
		Codec: "json", Compat: "shop/3", CredentialsHex: hexOf("secret"), SessionHex: "00112233445566778899aabbccddeeff",
		Name: "till 7", Software: "arpc-go", MaxMetadata: 16384, LineEnd: true,
	}
	server := hello2{
		Features: 15, MaxBody: 1048576, MaxInflight: 10000, MaxStreams: 1000, Window: 65536,
		Codec: "json", Compat: "shop/3", Name: "shop", Software: "arpc-go", MaxMetadata: 16384,
	}
	refusal := hello2{
		Features: 15, MaxBody: 67108848, Codec: "json", Software: "arpc-go",
		Code: 16, Message: "the token has expired", MaxMetadata: 16384,
	}
	zstd, s2 := hello2{Features: 15, Codec: "json", Coders: "zstd,s2", LineEnd: true}, hello2{Features: 15, Codec: "json", Coders: "s2"}
	return []scenario2{
		{"hello-coders", "the dialling side has two coders with names, the accepting side one of them: both use that one", []vector2{ping(zstd), pong(s2)}},
		{"hello", "both ends say everything about themselves; tags ascend, the dialler's line end is last. 67108848 is f0 ff ff 1f as a uvarint: 7 bits a byte, the lowest first", []vector2{ping(client), pong(server)}},
		{"hello-least", "a small client: metadata and Cancel, no streams with windows; the server takes all defaults and 0x0f of features. Record of the Ping: ARPC, 02, field 1 of 1 byte: 03", []vector2{ping(hello2{Features: 3}), pong(hello2{Features: 15})}},
		{"hello-version-1", "a peer of version 1 ignores the record and answers with an empty Pong", []vector2{ping(hello2{Features: 15, LineEnd: true}), {Dir: down, Cmd: wire.CmdPong}}},
		{"hello-refused", "code 16 is Unauthenticated; the server closes the connection after this Pong", []vector2{ping(hello2{Features: 15, CredentialsHex: hexOf("old")}), pong(refusal)}},
	}
}

func calls2() []scenario2 {
	const parent, state = traceParent, "vendor=1,other=2"
	request := func(method, body string, f fields2) vector2 {
		return vector2{Dir: up, Cmd: wire.CmdRequest, Flag: wire.FlagMeta, Method: method, Seq: 2, Meta: &f, BodyHex: hexOf(body)}
	}
	response := vector2{Dir: down, Cmd: wire.CmdResponse, Method: "/echo", Seq: 2, BodyHex: hexOf("hello")}
	withPairs := response
	withPairs.Flag, withPairs.Meta = wire.FlagMeta, &fields2{Pairs: []pair2{{"served-by", hexOf("shop-2")}}}
	async := request("/echo", "hello", fields2{TimeoutUS: ref[uint64](3000000)})
	async.Flag |= wire.FlagAsync
	asyncResponse := response
	asyncResponse.Flag = wire.FlagAsync
	two := []pair2{{"tenant", hexOf("a")}, {"binary.key_1-x", "00ff80"}}
	more := append(two, pair2{"empty", ""}, pair2{"tenant", hexOf("b")})
	return []scenario2{
		{"request-timeout", "1500000 microseconds are left: section 01 03 e0 c6 5b, 5 bytes, so 05 stands behind the method. The response has no section", []vector2{request("/echo", "hello", fields2{TimeoutUS: ref[uint64](1500000)}), response}},
		{"request-async", "flag 0x04 goes with 0x02; the response repeats 0x02 alone", []vector2{async, asyncResponse}},
		{"request-metadata", "two pairs, the value of the second is no text; a pair in the response", []vector2{request("/echo", "hello", fields2{Pairs: two}), withPairs}},
		{"request-trace", "traceparent and tracestate as in W3C Trace Context", []vector2{request("/echo", "hello", fields2{TraceParent: parent, TraceState: state}), response}},
		{"request-everything", "each kind of field of a request, no payload; a later value of a key replaces the first. The section is longer than 127 bytes, so its length takes two", []vector2{
			request("/all", "", fields2{TimeoutUS: ref[uint64](250), Pairs: more, TraceParent: parent, TraceState: state}),
			{Dir: down, Cmd: wire.CmdResponse, Method: "/all", Seq: 2},
		}},
		{"request-empty-section", "flag 0x04 and a section of 0 bytes", []vector2{request("/echo", "hello", fields2{}), response}},
		{"notify-metadata", "a notification with a pair and a trace; its seq means nothing", []vector2{{
			Dir: down, Cmd: wire.CmdNotify, Flag: wire.FlagMeta, Method: "/news", Seq: 7,
			Meta: &fields2{Pairs: []pair2{{"topic", hexOf("prices")}}, TraceParent: parent}, BodyHex: hexOf("up"),
		}}},
	}
}

func errors2() []scenario2 {
	request := vector2{Dir: up, Cmd: wire.CmdRequest, Method: "/err", Seq: 3, BodyHex: hexOf("x")}
	expired := request
	expired.Flag, expired.Meta = wire.FlagMeta, &fields2{TimeoutUS: ref[uint64](0)}
	failed := func(text string, f fields2) vector2 {
		return vector2{
			Dir: down, Cmd: wire.CmdResponse, Flag: wire.FlagError | wire.FlagMeta, Method: "/err", Seq: 3,
			Meta: &f, BodyHex: hexOf(text),
		}
	}
	details := []detail2{{"shop.OutOfStock", hexOf(`{"item":"tea","left":0}`)}, {"empty", ""}}
	return []scenario2{
		{"error-code", "code 5 is NotFound: section 02 01 05; the text is the payload, as in version 1", []vector2{request, failed("no such item", fields2{Code: ref[uint32](5)})}},
		{"error-details", "code 9 is FailedPrecondition; two details, the second without data", []vector2{request, failed("sold out", fields2{Code: ref[uint32](9), Details: details})}},
		{"error-metadata", "an error response with a code and a pair, and no text", []vector2{request, failed("", fields2{Code: ref[uint32](13), Pairs: []pair2{{"served-by", hexOf("shop-2")}}})}},
		{"error-plain", "an error without a section is as in version 1: code Unknown", []vector2{request, {Dir: down, Cmd: wire.CmdResponse, Flag: wire.FlagError, Method: "/err", Seq: 3, BodyHex: hexOf("boom")}}},
		{"request-expired", "0 microseconds are left: not run, answered with DeadlineExceeded (4)", []vector2{expired, failed("the deadline passed", fields2{Code: ref[uint32](4)})}},
	}
}

func cancels2() []scenario2 {
	request := vector2{Dir: up, Cmd: wire.CmdRequest, Method: "/slow", Seq: 4, BodyHex: hexOf("x")}
	return []scenario2{
		{"cancel-request", "the whole Cancel is 16 bytes; without a section its code is Canceled (1). The answer may come or not", []vector2{
			request,
			{Dir: up, Cmd: wire.CmdCancel, Seq: 4},
			{Dir: down, Cmd: wire.CmdResponse, Flag: wire.FlagError | wire.FlagMeta, Method: "/slow", Seq: 4, Meta: &fields2{Code: ref[uint32](1)}, BodyHex: hexOf("canceled")},
		}},
		{"cancel-request-reason", "a Cancel with a code and a text has the flags of an error response", []vector2{
			request,
			{Dir: up, Cmd: wire.CmdCancel, Flag: wire.FlagError | wire.FlagMeta, Seq: 4, Meta: &fields2{Code: ref[uint32](10)}, BodyHex: hexOf("overtaken")},
		}},
	}
}

// talk makes the frames of the stream 5, which the client opens.
func talk(dir string, cmd byte, body string) vector2 {
	v := vector2{Dir: dir, Cmd: cmd, Seq: 5, BodyHex: hexOf(body)}
	if cmd&wire.CmdMask == wire.CmdStream {
		v.Method = "/talk"
	}
	return v
}

func credit(dir string, cmd byte, bytes uint64) vector2 {
	v := talk(dir, cmd, "")
	v.Credit = &bytes
	return v
}

func opened(f *fields2) vector2 {
	v := talk(up, openerStream, "")
	v.Flag, v.Meta = wire.FlagOpen, f
	if f != nil {
		v.Flag |= wire.FlagMeta
	}
	return v
}

func ended(dir string, cmd byte, code uint32, text string) vector2 {
	v := talk(dir, cmd, text)
	v.Flag, v.Meta = wire.FlagMeta, &fields2{Code: &code}
	if code != 0 {
		v.Flag |= wire.FlagError
	}
	return v
}

func streams2() []scenario2 {
	fromServer := func(v vector2) vector2 {
		v.Dir = map[string]string{up: down, down: up}[v.Dir]
		return v
	}
	openAndEnd := opened(nil)
	openAndEnd.Cmd = openerEnd
	return []scenario2{
		{"stream", "opened with a timeout, a pair and a trace; messages and an empty one both ways, windows both ways (131072 is 80 80 08), both halves closed: the opener's with a last message, the other without", []vector2{
			opened(&fields2{TimeoutUS: ref[uint64](60000000), Pairs: []pair2{{"tenant", hexOf("a")}}, TraceParent: traceParent}),
			talk(up, openerStream, "one"), talk(down, wire.CmdStream, "re:one"),
			talk(up, openerStream, ""), talk(down, wire.CmdStream, ""),
			credit(down, wire.CmdWindow, 131072), credit(up, openerWindow, 300),
			talk(up, openerEnd, "last"), talk(down, wire.CmdStream|wire.StreamEnd, ""),
		}},
		{"stream-open-end", "the opener sends nothing: the frame that opens has the end bit too, and carries no message. The other side ends with a last message", []vector2{
			openAndEnd, talk(down, wire.CmdStream, "one"), talk(down, wire.CmdStream|wire.StreamEnd, "two"),
		}},
		{"stream-of-the-server", "0x80 says opener, not client", []vector2{
			fromServer(opened(nil)), fromServer(talk(up, openerStream, "one")), fromServer(credit(down, wire.CmdWindow, 19)),
			fromServer(talk(up, openerEnd, "")), fromServer(talk(down, wire.CmdStream|wire.StreamEnd, "")),
		}},
		{"stream-cancel", "the opener gives up: 16 bytes, code Canceled", []vector2{opened(nil), talk(up, openerCancel, "")}},
		{"stream-cancel-reason", "the opener fails the stream with a code and a text", []vector2{opened(nil), ended(up, openerCancel, 10, "overtaken")}},
		{"stream-refused", "the other side has no such route: Unimplemented (12)", []vector2{opened(nil), ended(down, cancelStream, 12, "method not found")}},
		{"stream-overrun", "the other side resets a stream beyond its window: ResourceExhausted (8)", []vector2{opened(nil), talk(up, openerStream, "one"), ended(down, cancelStream, 8, "too much")}},
		{"stream-no-more", "the other side has all it needs: code 0, an orderly end both ways", []vector2{opened(nil), talk(up, openerStream, "one"), ended(down, cancelStream, 0, "")}},
	}
}

func goAways2() []scenario2 {
	return []scenario2{
		{"go-away", "a reason, and the acknowledgement of 16 bytes", []vector2{
			{Dir: down, Cmd: wire.CmdGoAway, BodyHex: hexOf("shutting down")}, {Dir: up, Cmd: acknowledging},
		}},
		{"go-away-come-back", "connect anew after 2 seconds: 2000000 is 80 89 7a", []vector2{
			{Dir: down, Cmd: wire.CmdGoAway, Flag: wire.FlagMeta, Meta: &fields2{ComeBackUS: ref[uint64](2000000)}, BodyHex: hexOf("new version")},
			{Dir: up, Cmd: acknowledging},
		}},
	}
}

// tolerated2 are frames to be read as recorded, and never written so.
func tolerated2() []scenario2 {
	request := func(note, section string, f fields2) vector2 {
		v := vector2{Note: note, Dir: up, Cmd: wire.CmdRequest, Flag: wire.FlagMeta, Method: "/echo", Seq: 6, Meta: &f, BodyHex: hexOf("x"), ReadOnly: true}
		return raw(v, string(byte(len(section)))+section+"x")
	}
	hello := func(note string, cmd byte, body string, h hello2) vector2 {
		return raw(vector2{Note: note, Dir: up, Cmd: cmd, Hello: &h, BodyHex: hexOf(body), ReadOnly: true}, body)
	}
	window := vector2{Note: "credit in three bytes where one is enough", Dir: down, Cmd: wire.CmdWindow, Seq: 6, Credit: ref[uint64](5), BodyHex: "858000", ReadOnly: true}
	method := vector2{Note: "a method where none belongs is skipped", Dir: up, Cmd: wire.CmdCancel, Method: "/echo", Seq: 6, ReadOnly: true}
	return []scenario2{{"tolerated", "sound, but not as it would be written: read these as recorded", []vector2{
		request("unknown tags 8 and 200", "\x08\x02xx\x01\x01\x05\xc8\x01\x00", fields2{TimeoutUS: ref[uint64](5)}),
		request("tags in any order", "\x05\x01p\x02\x01\x03\x01\x01\x05", fields2{TimeoutUS: ref[uint64](5), Code: ref[uint32](3), TraceParent: "p"}),
		request("of a number that comes twice the last counts", "\x01\x01\x09\x01\x01\x05", fields2{TimeoutUS: ref[uint64](5)}),
		request("numbers longer than they need be", "\x81\x00\x82\x00\x85\x00", fields2{TimeoutUS: ref[uint64](5)}),
		hello("version 3 with a field and a feature of its own", wire.CmdPing, "ARPC\x03\x01\x01\x17\x50\x01x", hello2{Features: 23}),
		hello("tags in any order, the last of two counts", wire.CmdPing, "ARPC\x02\x06\x01a\x01\x01\x0f\x06\x04json", hello2{Features: 15, Codec: "json"}),
		raw(window, "\x85\x80\x00"),
		raw(method, ""),
	}}}
}

func malformed2() []scenario2 {
	section := func(note, rest string) vector2 {
		return raw(vector2{Note: note, Dir: up, Cmd: wire.CmdRequest, Flag: wire.FlagMeta, Method: "/echo", Seq: 6, Malformed: "metadata"}, rest)
	}
	hello := func(note, fields string) vector2 {
		body := "ARPC\x02" + fields
		return raw(vector2{Note: note, Dir: up, Cmd: wire.CmdPing, BodyHex: hexOf(body), Malformed: "hello"}, body)
	}
	window := func(note, body string) vector2 {
		return raw(vector2{Note: note, Dir: up, Cmd: wire.CmdWindow, Seq: 6, BodyHex: hexOf(body), Malformed: "window"}, body)
	}
	const bits65 = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"
	return []scenario2{
		{"malformed-metadata", "answered with InvalidArgument; body_hex is left empty", []vector2{
			section("flag 0x04 and nothing behind the method", ""),
			section("the length of the section is cut short", "\x80"),
			section("the section is longer than the body", "\x03\x01\x01"),
			section("a length of 65 bits", bits65),
			section("a tag without a length", "\x01\x01"),
			section("a value longer than the section", "\x04\x05\x09ab"+"payload"),
			section("an empty number", "\x02\x01\x00"),
			section("a byte behind a number", "\x04\x01\x02\x05\x00"),
			section("a number of 65 bits", "\x0c\x01\x0a"+bits65),
			section("a code of 33 bits", "\x07\x02\x05\x80\x80\x80\x80\x10"),
			section("a detail without the length of its name", "\x02\x03\x00"),
			section("a detail's name longer than the detail", "\x04\x03\x02\x02n"),
			section("an empty key", "\x04\x04\x02\x00v"),
			section("a key in upper case", "\x05\x04\x03\x01Kv"),
			section("a key longer than the pair", "\x05\x04\x03\x03kv"),
			section("129 pairs", "\x84\x04"+strings.Repeat("\x04\x02\x01k", 129)),
		}},
		{"malformed-hello", "refused with InvalidArgument", []vector2{
			hello("a tag without a length", "\x01"),
			hello("a value longer than the record", "\x06\x05json"),
			hello("an unknown field longer than the record", "\x20\x05json"),
			hello("an empty number", "\x01\x00"),
			hello("a byte behind a number", "\x01\x02\x01\x00"),
			hello("a number of 65 bits", "\x02\x0a"+bits65),
			hello("a code of 33 bits", "\x0c\x05\x80\x80\x80\x80\x10"),
			hello("a session id of 65 bytes", "\x09\x41"+strings.Repeat("s", 65)),
		}},
		{"malformed-window", "dropped and counted", []vector2{
			window("no credit", ""), window("cut short", "\x80"), window("a byte behind the number", "\x01\x01"), window("65 bits", bits65),
		}},
	}
}
