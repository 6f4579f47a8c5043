// What the right side of cmd-stream.md takes for granted.
package ours

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/command"
	"github.com/arpc-go/arpc/middleware/call"
)

var (
	ctx     context.Context
	err     error
	server  *arpc.Server
	client  *arpc.Client
	pool    *arpc.ClientPool
	handler *arpc.Handler
	ln      net.Listener
	sender  *command.Sender[Calc]
	pending *command.Pending[int]
	reply   *command.Reply[int]
	cmd     Add
	invoker command.Invoker

	addr      string
	dialer    arpc.DialerFunc
	tlsConfig *tls.Config
	deadline  time.Time
	timeout   time.Duration
	n         int
)
