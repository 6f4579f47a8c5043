// What the left side of arpc.md takes for granted.
package theirs

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/lesismal/arpc"
	"github.com/lesismal/arpc/codec"
	"github.com/lesismal/arpc/log"
)

var (
	ctx     *arpc.Context
	err     error
	server  *arpc.Server
	client  *arpc.Client
	pool    *arpc.ClientPool
	handler arpc.Handler
	stream  *arpc.Stream
	msg     *arpc.Message
	dialer  arpc.DialerFunc
	c       codec.Codec
	l       log.Logger

	method    string
	v         any
	req, rsp  string
	values    map[any]any
	timeout   time.Duration
	n         int
	request   *Echo
	response  *Echo
	filter    func(*arpc.Client) bool
	messageFn func(*arpc.Client, *arpc.Message)
	allowed   func(*arpc.Context) bool
)

type Echo struct{ Text string }
