package buffstreams

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// model reads frames the simplest way.
func model(b []byte, max int) (messages [][]byte, rest int, err error) {
	header := formula(max)
	for len(b) >= header {
		size, _ := binary.Varint(b[:header])
		canonical := make([]byte, binary.MaxVarintLen64)
		binary.PutVarint(canonical, size)
		switch {
		case !bytes.Equal(b[:header], canonical[:header]), size < 0:
			return messages, 0, ErrMalformed
		case size > int64(max):
			return messages, 0, ErrTooLarge
		case int64(len(b)-header) < size:
			return messages, len(b), nil
		}
		messages = append(messages, bytes.Clone(b[header:header+int(size)]))
		b = b[header+int(size):]
	}
	return messages, len(b), nil
}

func fuzzSeeds(f *testing.F, add func(max uint32, data []byte)) {
	var all []byte
	for _, c := range readCaptured(f) {
		_, frame := c.bytes(f)
		if c.Max == 0 {
			all = append(all, frame...)
		}
		add(uint32(c.Max), frame)
	}
	add(0, all)
	add(100, []byte{0xff, 0xff, 0xff, 0xff, 0xff})
	add(1<<20, []byte{0x80, 0x80, 0x80, 1})
	add(4096, nil)
}

// bound makes a MaxMessageSize of any number, mostly small ones.
func bound(n uint32) int {
	if n == 0 {
		return DefaultMaxMessageSize
	}
	return max(1, int(n%(1<<25)))
}

func FuzzReader(f *testing.F) {
	fuzzSeeds(f, func(max uint32, data []byte) { f.Add(max, data, []byte{1, 0, 200}) })
	f.Fuzz(func(t *testing.T, n uint32, data, cuts []byte) {
		max := bound(n)
		want, rest, wantErr := model(data, max)
		in := incoming{framing: framingOf(t, max)}
		var got [][]byte
		var err error
		for i := 0; len(data) > 0 && err == nil; i++ {
			space := in.space()
			n := min(len(space), len(data))
			if len(cuts) > 0 {
				n = min(n, 1+int(cuts[i%len(cuts)])*int(cuts[i%len(cuts)]))
			}
			in.w += copy(space, data[:n])
			data = data[n:]
			for ok := true; ok && err == nil; {
				var message []byte
				if message, ok, err = in.next(); ok {
					got = append(got, bytes.Clone(message))
				}
			}
			if i%2 == 0 {
				in.rest()
			}
		}
		require.Equal(t, want, got)
		require.ErrorIs(t, err, wantErr)
		if wantErr == nil {
			require.Equal(t, rest, in.held())
		}
	})
}

// A peer that sends anything: what comes out is what the model says, then why it
// ended.
func FuzzConn(f *testing.F) {
	fuzzSeeds(f, func(max uint32, data []byte) { f.Add(max, data, uint8(3)) })
	f.Fuzz(func(t *testing.T, n uint32, data []byte, split uint8) {
		max := bound(n)
		if len(data) > 32<<10 { // more than the pipe holds
			return
		}
		near, far := arpctest.Pipe(func(faults arpctest.Faults) { faults.Split(int(split)) })
		_, err := far.Write(data)
		require.NoError(t, err)
		require.NoError(t, far.Close())
		c, err := NewConn(near, ConnConfig{MaxMessageSize: max})
		require.NoError(t, err)
		var got [][]byte
		for message, e := range c.Messages(context.Background()) {
			if err = e; e == nil {
				got = append(got, bytes.Clone(message))
			}
		}
		want, rest, wantErr := model(data, max)
		if rest > 0 {
			wantErr = io.ErrUnexpectedEOF
		}
		require.Equal(t, want, got)
		require.ErrorIs(t, err, wantErr)
		require.NoError(t, c.Close())
		<-c.Done()
	})
}

// What is sent comes out at the other end, in order, however the bytes travel.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint32(0), []byte("some bytes"), []byte{0, 1, 2, 3}, uint8(1))
	f.Add(uint32(100), bytes.Repeat([]byte("long"), 1000), []byte{99, 0, 0, 100}, uint8(0))
	f.Fuzz(func(t *testing.T, n uint32, data, sizes []byte, short uint8) {
		max := bound(n)
		if len(sizes) > 200 {
			return
		}
		near, far := arpctest.Pipe(func(faults arpctest.Faults) { faults.ShortWrites(int(short)) })
		sender, err := NewConn(near, ConnConfig{MaxMessageSize: max})
		require.NoError(t, err)
		receiver, err := NewConn(far, ConnConfig{MaxMessageSize: max})
		require.NoError(t, err)
		var want [][]byte
		for _, size := range sizes {
			message := data[:min(int(size), len(data), max)]
			data = data[len(message):]
			require.NoError(t, sender.Send(context.Background(), message))
			want = append(want, message)
		}
		closed := make(chan error, 1)
		go func() { closed <- sender.Close() }()
		for i := 0; ; i++ {
			message, err := receiver.Receive(context.Background())
			if errors.Is(err, io.EOF) {
				require.Len(t, want, i)
				break
			}
			require.NoError(t, err)
			require.True(t, bytes.Equal(want[i], message))
		}
		require.NoError(t, <-closed)
		require.NoError(t, receiver.Close())
		<-sender.Done()
		<-receiver.Done()
	})
}
