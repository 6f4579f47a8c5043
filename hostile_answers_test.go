package arpc_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// hostileReplies are what a peer may send to a request of ours.
var hostileReplies = map[string]struct {
	reply  func(req hostileMsg) [][]byte
	want   *badWant // nil: the answer is "fine"
	missed int32
}{
	"twice": {
		reply:  func(req hostileMsg) [][]byte { return [][]byte{hostileFine(req), hostileFine(req), hostileFine(req)} },
		missed: 2,
	},
	"an error behind it": {
		reply: func(req hostileMsg) [][]byte {
			return [][]byte{hostileFine(req), hostileMsg{2, 1, req.seq, req.method, "no"}.frame()}
		},
		missed: 1,
	},
	"an error before it": {
		reply: func(req hostileMsg) [][]byte {
			return [][]byte{hostileMsg{2, 1, req.seq, req.method, "no"}.frame(), hostileFine(req)}
		},
		want: &badWant{code: arpc.CodeUnknown, remote: true, texts: []string{"no"}}, missed: 1,
	},
	"to others before it": {
		reply: func(req hostileMsg) [][]byte {
			var list [][]byte
			for _, seq := range []uint64{0, req.seq + 1, req.seq - 1, req.seq ^ 1<<31, req.seq ^ 1<<47, req.seq ^ 1<<63, ^req.seq} {
				list = append(list, hostileMsg{2, 0, seq, req.method, "wrong"}.frame())
			}
			return append(list, hostileFine(req))
		},
		missed: 7,
	},
	"an error without a text": {
		reply: func(req hostileMsg) [][]byte { return [][]byte{hostileMsg{2, 1, req.seq, req.method, ""}.frame()} },
		want:  &badWant{code: arpc.CodeUnknown, remote: true, texts: []string{"Unknown"}},
	},
	"with another method": {
		reply: func(req hostileMsg) [][]byte { return [][]byte{hostileMsg{2, 0, req.seq, "/other", "fine"}.frame()} },
	},
	"among other things": {
		reply: func(req hostileMsg) [][]byte {
			return [][]byte{hostileMsg{cmd: 4}.frame(), hostileMsg{1, 0, req.seq, "/echo", "x"}.frame(), hostileMsg{0x86, 0, req.seq, "/stream", "x"}.frame(), hostileFine(req)}
		},
	},
	"with a lying method": {
		reply: func(req hostileMsg) [][]byte { return [][]byte{hostileLie(4, 2, 0, 9, req.seq, "fine")} },
		want:  &badWant{code: arpc.CodeInvalidArgument, texts: []string{"malformed", "longer than the body"}},
	},
	"without a method": {
		reply: func(req hostileMsg) [][]byte { return [][]byte{hostileLie(4, 2, 0, 0, req.seq, "fine")} },
		want:  &badWant{code: arpc.CodeInvalidArgument, texts: []string{"malformed", "empty"}},
	},
	"too large": {
		reply: func(req hostileMsg) [][]byte {
			return [][]byte{hostileMsg{2, 0, req.seq, req.method, strings.Repeat("x", 1000)}.frame()}
		},
		want: &badWant{code: arpc.CodeResourceExhausted, texts: []string{"limit of 1000", "WithMaxBodyLen"}},
	},
}

func hostileFine(req hostileMsg) []byte {
	return hostileMsg{wire.CmdResponse, req.flag, req.seq, req.method, "fine"}.frame()
}

func TestHostileReplies(t *testing.T) {
	hostileOnEach(t, []arpc.Option{arpc.WithMaxBodyLen(1000)}, func(t *testing.T, target *hostileTarget) {
		p := target.connect(t)
		c := hostileTake(t, target.clients)
		for name, r := range hostileReplies {
			for how, call := range hostileCalls {
				t.Run(name+"/"+how, func(t *testing.T) {
					p.t = t
					target.missed.Store(0)
					outcome := call(c)
					p.send(r.reply(p.request())...)
					err := hostileTake(t, outcome)
					if r.want == nil {
						require.NoError(t, err)
					} else {
						r.want.check(t, err)
					}
					p.answers()
					require.Equal(t, r.missed, target.missed.Load())
				})
			}
		}
	})
}

var hostileCalls = map[string]func(c *arpc.Client) <-chan error{
	"Call": func(c *arpc.Client) <-chan error {
		outcome := make(chan error, 1)
		go func() {
			rsp := ""
			err := c.Call("/theirs", "x", &rsp, hostileWait)
			outcome <- hostileOutcome(rsp, err)
		}()
		return outcome
	},
	"CallAsync": func(c *arpc.Client) <-chan error {
		outcome := make(chan error, 10) // more than one would show
		err := c.CallAsync("/theirs", "x", func(ctx *arpc.Context) {
			rsp := ""
			err := ctx.Bind(&rsp)
			outcome <- hostileOutcome(rsp, err)
		}, hostileWait)
		if err != nil {
			outcome <- err
		}
		return outcome
	},
}

func hostileOutcome(rsp string, err error) error {
	if err == nil && rsp != "fine" {
		return fmt.Errorf("somebody else's answer: %q", rsp)
	}
	return err
}

// Every combination of stream bits and payload, on streams that have a handler
// and whose end may be said more than once: nothing is left open.
func TestHostileStreamBits(t *testing.T) {
	const streams = 4
	hostileOnEach(t, []arpc.Option{arpc.WithMaxStreams(streams)}, func(t *testing.T, target *hostileTarget) {
		kinds := []byte{0x06, 0x46, 0x86, 0xc6}
		for n := range len(kinds) * len(kinds) * 4 {
			p := target.connect(t)
			pick := n
			for range 2 {
				payload := strings.Repeat("x", pick%2)
				pick /= 2
				p.send(hostileMsg{kinds[pick%4], 0, 7, "/stream", payload}.frame())
				pick /= 4
			}
			p.send(hostileMsg{0xc6, 0, 7, "/stream", ""}.frame())
			hostileStreamsFree(t, p, streams)
			p.nc.Close()
			target.ended(t)
		}
		require.Empty(t, target.connect(t).answers())
	})
}

// hostileStreamsFree requires that so many streams can be open at a time, maybe
// not at once: those that have just ended may still count.
func hostileStreamsFree(t *testing.T, p *hostilePeer, streams int) {
	t.Helper()
	for id, refused := uint64(1000), streams; refused > 0; id += 1000 {
		for i := range uint64(streams) {
			p.send(hostileMsg{0x86, 0, id + i, "/stream", "open"}.frame())
		}
		echoes := 0
		for refused = 0; echoes+refused < streams; {
			switch m := p.mustReceive(); {
			case m.seq < id:
			case m.cmd == 0x06:
				echoes++
			case m.cmd == 0x46:
				refused++
			}
		}
		for i := range uint64(streams) {
			p.send(hostileMsg{0xc6, 0, id + i, "/stream", ""}.frame())
		}
		for echoes > 0 {
			if m := p.mustReceive(); m.seq >= id && m.cmd == 0x46 {
				echoes--
			}
		}
	}
}

// A peer that keeps to the limit is never refused: a stream whose ends have both
// been said does not count.
func TestHostileStreamsAtTheLimit(t *testing.T) {
	hostileOnEach(t, []arpc.Option{arpc.WithMaxStreams(1)}, func(t *testing.T, target *hostileTarget) {
		p := target.connect(t)
		for id := range uint64(500) {
			p.send(hostileMsg{0x86, 0, id, "/stream", "x"}.frame(), hostileMsg{0xc6, 0, id, "/stream", ""}.frame())
			require.Equal(t, hostileMsg{0x06, 0, id, "/stream", "x"}, p.mustReceive())
			require.Equal(t, hostileMsg{0x46, 0, id, "/stream", ""}, p.mustReceive())
		}
	})
}

// A sequence number is opaque: requests with equal ones are answered each.
func TestHostileEqualSequences(t *testing.T) {
	hostileOnEach(t, nil, func(t *testing.T, target *hostileTarget) {
		p := target.connect(t)
		want := make(map[string]bool)
		for i := range 100 {
			payload := binary.AppendUvarint(nil, uint64(i))
			want[string(payload)] = true
			p.send(hostileMsg{1, 0, 7, "/echo", string(payload)}.frame())
		}
		for range 100 {
			delete(want, p.mustReceive().payload)
		}
		require.Empty(t, want)
	})
}
