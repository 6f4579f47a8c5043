package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/arpc-go/arpc"
	commands "github.com/arpc-go/arpc/extension/command"
)

// oursCommands is ours with the commands of extension/command in the place of calls.
type oursCommands struct{}

func (oursCommands) Name() string { return oursName + ", commands" }

func (oursCommands) Setup() string {
	return "default options, Send, a codec that leaves byte slices as they are, a deadline for each command"
}

// echoCommand has its body as its result.
type echoCommand struct{ body []byte }

func (c *echoCommand) Exec(_ context.Context, work *Work, reply *commands.Reply[[]byte]) error {
	work.Pause()
	return reply.Last(c.body)
}

func echoCommands() *commands.Registry[*Work] {
	reg := commands.NewRegistry[*Work]()
	commands.Register[*Work, *echoCommand](reg)
	return reg
}

// commandCodec encodes echo commands, as the codec of the other side's participant does.
type commandCodec struct{}

var errNoCommand = errors.New("no echo command")

func (c commandCodec) Marshal(v any) ([]byte, error) { return c.MarshalAppend(nil, v) }

func (commandCodec) MarshalAppend(dst []byte, v any) ([]byte, error) {
	if c, ok := v.(*echoCommand); ok {
		return append(dst, c.body...), nil
	}
	return dst, errNoCommand
}

func (commandCodec) Unmarshal(data []byte, v any) error {
	c, ok := v.(*echoCommand)
	if !ok {
		return errNoCommand
	}
	c.body = slices.Clone(data)
	return nil
}

func (oursCommands) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	h := arpc.NewHandler(arpc.WithCodec(commandCodec{}))
	echoCommands().Handle(h, work)
	s := arpc.NewServer(arpc.WithHandler(h))
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(ln)
}

func (oursCommands) Dial(addr string) (Conn, error) {
	h := arpc.NewHandler(arpc.WithCodec(commandCodec{}))
	c, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) }, arpc.WithHandler(h), arpc.WithReconnect(0, 0, 0), arpc.WithCallTimeout(callTimeout))
	if err != nil {
		return nil, err
	}
	return oursCommandConn{c, echoCommands().Sender(c)}, nil
}

type oursCommandConn struct {
	client *arpc.Client
	sender *commands.Sender[*Work]
}

func (c oursCommandConn) Close() error {
	c.client.Stop()
	return nil
}

func (c oursCommandConn) Caller() Caller { return &oursCommander{sender: c.sender} }

type oursCommander struct {
	sender *commands.Sender[*Work]
	echo   echoCommand
}

func (c *oursCommander) Call(req []byte) ([]byte, error) {
	c.echo.body = req
	return commands.Send(context.Background(), c.sender, &c.echo)
}

// commandLoads are those of the benchmark that the authors of cmd-stream-go publish
// (github.com/ymz-ncnk/go-client-server-benchmarks): handlers of 30 ms, and clients that
// have many commands under way at the same time, here so many in all. Bodies are
// there of 17 to 1024 bytes.
func commandLoads() (loads []echo) {
	const underWay = 8000
	for _, clients := range []int{1, 4, 16} {
		loads = append(loads, echo{
			name: fmt.Sprintf("command-%d", clients), conns: clients, callers: underWay / clients, size: 512, delay: 30 * time.Millisecond,
		})
	}
	return loads
}

// commandTables compare commands with those of cmd-stream-go, and with plain calls.
func commandTables() (tables []*Table) {
	for _, w := range commandLoads() {
		columns := slices.Concat([]column{compared}, rates("commands/s"), latencies, costs)
		t := newTable(w, columns, oursCommands{}, ours{}, cmdStream{}, cmdStream{plain: true}, limitSpawn{})
		t.Base = oursCommands{}.Name()
		t.chart = func(t *Table) chart { return tableChart(t, "commands per second", Result.Rate, thousands, false) }
		tables = append(tables, t)
	}
	return tables
}

func commandGoals() (all []goal) {
	theirs := []string{cmdStream{}.Name(), cmdStream{plain: true}.Name()}
	for _, w := range commandLoads() {
		all = append(all, goal{w.name, "rate of commands against cmd-stream-go, its better set-up", 2.4, false, rateOf(oursCommands{}.Name(), theirs...), 0})
	}
	return all
}
