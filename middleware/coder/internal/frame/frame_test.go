package frame_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

func TestHeadAndPayload(t *testing.T) {
	message := func(reserved, flag, methodLen byte, behind string) *arpc.Message {
		b := make([]byte, arpc.HeadLen)
		b[4], b[5], b[6], b[7] = reserved, arpc.CmdRequest, flag, methodLen
		return &arpc.Message{Buffer: append(b, behind...)}
	}
	for name, c := range map[string]struct {
		m             *arpc.Message
		head, payload int // negative: there is none
	}{
		"a request":                {message(0, 0, 2, "/mhello"), 18, 18},
		"no payload":               {message(0, 0, 2, "/m"), 18, 18},
		"no method":                {message(0, 0, 0, ""), 16, 16},
		"with metadata":            {message(0, 4, 2, "/m\x03abchello"), 18, 22},
		"with nothing but that":    {message(0, 4, 2, "/m\x03abc"), 18, 22},
		"with hidden metadata":     {message(0x40, 4, 2, "/m\xff\xff\xff"), 18, 18},
		"with broken metadata":     {message(0, 4, 2, "/m\xff\xff\xff"), 18, -1},
		"ends within its method":   {message(0, 0, 3, "/m"), -1, -1},
		"hidden header":            {message(0, 0, 200, "some bytes"), 16, 16},
		"hidden header, and a bit": {message(0x80, 0xff, 0xff, ""), 16, 16},
		"less than a header":       {&arpc.Message{Buffer: make([]byte, 15)}, -1, -1},
	} {
		t.Run(name, func(t *testing.T) {
			head, ok := frame.Head(c.m)
			require.Equal(t, c.head >= 0, ok)
			if ok {
				require.Equal(t, c.head, head)
			}
			payload, ok := frame.Payload(c.m)
			require.Equal(t, c.payload >= 0, ok)
			if ok {
				require.Equal(t, c.payload, payload)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	client := &arpc.Client{Handler: arpc.NewHandler(arpc.WithMaxBodyLen(1000))}
	for name, c := range map[string]struct {
		client *arpc.Client
		own    int
		want   frame.Limit
	}{
		"default":        {nil, 0, frame.Limit{Bytes: arpc.DefaultMaxBodyLen + arpc.HeadLen, Setting: "arpc.WithMaxBodyLen"}},
		"the client's":   {client, 0, frame.Limit{Bytes: 1016, Setting: "arpc.WithMaxBodyLen"}},
		"own is larger":  {client, 1017, frame.Limit{Bytes: 1016, Setting: "arpc.WithMaxBodyLen"}},
		"own is smaller": {client, 1015, frame.Limit{Bytes: 1015, Setting: "own"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, frame.LimitOf(c.client, c.own, "own"))
		})
	}
}
