// What the left side of cmd-stream.md takes for granted.
package theirs

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"time"

	cmdstream "github.com/cmd-stream/cmd-stream-go"
	cln "github.com/cmd-stream/cmd-stream-go/client"
	"github.com/cmd-stream/cmd-stream-go/core"
	ccln "github.com/cmd-stream/cmd-stream-go/core/cln"
	csrv "github.com/cmd-stream/cmd-stream-go/core/srv"
	"github.com/cmd-stream/cmd-stream-go/delegate"
	dcln "github.com/cmd-stream/cmd-stream-go/delegate/cln"
	dsrv "github.com/cmd-stream/cmd-stream-go/delegate/srv"
	grp "github.com/cmd-stream/cmd-stream-go/group"
	hdlr "github.com/cmd-stream/cmd-stream-go/handler"
	sndr "github.com/cmd-stream/cmd-stream-go/sender"
	hks "github.com/cmd-stream/cmd-stream-go/sender/hooks"
	srv "github.com/cmd-stream/cmd-stream-go/server"
	tspt "github.com/cmd-stream/cmd-stream-go/transport"
)

var (
	ctx      context.Context
	err      error
	server   *csrv.Server
	listener core.Listener
	client   *ccln.Client[Calc]
	group    grp.Group[Calc]
	sender   sndr.Sender[Calc]
	proxy    core.Proxy
	result   core.Result
	results  chan core.AsyncResult
	seq      core.Seq
	cmd      core.Cmd[Calc]

	serverCodec srv.Codec[Calc]
	clientCodec cln.Codec[Calc]

	factory    cln.ConnFactory
	strategies grp.DispatchStrategyFactory[Calc]
	hooks      hks.Factory[Calc]
	breaker    hks.CircuitBreaker
	handler    sndr.ResultHandler
	invoker    hdlr.Invoker[Calc]

	addr      string
	conn      net.Conn
	tlsConfig *tls.Config
	deadline  time.Time
	timeout   time.Duration
	n         int
	lost      func(addr net.Addr, err error)
)
