// What the right side of arpc.md takes for granted.
package ours

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
	"github.com/arpc-go/arpc/middleware/router"
)

var (
	ctx     *arpc.Context
	err     error
	server  *arpc.Server
	client  *arpc.Client
	pool    *arpc.ClientPool
	handler *arpc.Handler
	stream  *arpc.Stream
	msg     *arpc.Message
	dialer  arpc.DialerFunc
	c       codec.Codec
	logger  *slog.Logger

	subscriber *pubsub.Client

	method   string
	v        any
	req, rsp string
	values   map[any]any
	timeout  time.Duration
	n        int
	request  *Echo
	response *Echo
	filter   func(*arpc.Client) bool
	clientFn func(*arpc.Client)
	allowed  func(*arpc.Context) bool
)

type Echo struct{ Text string }
