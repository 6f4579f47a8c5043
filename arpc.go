// Package arpc is a two-way RPC framework over any net.Conn. Client and server
// share a Handler that routes messages by a method name in a fixed 16-byte
// header; either side may call, notify, open streams and answer.
//
//	server := arpc.NewServer()
//	server.Handler.Handle("/echo", func(ctx *arpc.Context) {
//		var s string
//		if err := ctx.Bind(&s); err == nil {
//			ctx.Write(s)
//		}
//	})
//	go server.Run(":8888")
//
//	client, err := arpc.NewClient(func() (net.Conn, error) {
//		return net.Dial("tcp", "localhost:8888")
//	})
//	var reply string
//	err = client.Call("/echo", "hello", &reply, time.Second)
//
// A call ends exactly once: with an answer, or with an *Error that has a Code
// and says whether the peer said it (IsRemote) and whether the request may be
// sent again (SafeToRetry).
//
// Every queue is bounded; what happens at the bound is said where the option is
// that sets it.
package arpc

import (
	"io"
	"net"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

// Commands of messages, for NewMessage and Message.Cmd.
const (
	CmdRequest  = wire.CmdRequest
	CmdResponse = wire.CmdResponse
	CmdNotify   = wire.CmdNotify
	CmdPing     = wire.CmdPing
	CmdPong     = wire.CmdPong
	CmdStream   = wire.CmdStream
)

const (
	// HeadLen is the length of a message's header in bytes.
	HeadLen = wire.HeaderLen
	// MaxMethodLen is the longest method name in bytes.
	MaxMethodLen = wire.MaxMethodLen
	// DefaultMaxBodyLen is the default of WithMaxBodyLen in bytes.
	DefaultMaxBodyLen = wire.DefaultMaxBodyLen
)

// Codec turns values into payloads and back.
type Codec = codec.Codec

// DefaultHandler is what NewServer and NewClient start from: each gets a clone.
// What is registered later counts for servers and clients made later. The
// functions of this package that are named as methods of Handler call its.
var DefaultHandler = NewHandler()

// Handle calls DefaultHandler.Handle.
func Handle(method string, fn HandlerFunc, async ...bool) {
	DefaultHandler.Handle(method, fn, async...)
}

// HandleStream calls DefaultHandler.HandleStream.
func HandleStream(method string, fn StreamHandlerFunc) { DefaultHandler.HandleStream(method, fn) }

// HandleNotFound calls DefaultHandler.HandleNotFound.
func HandleNotFound(fn HandlerFunc) { DefaultHandler.HandleNotFound(fn) }

// Register calls DefaultHandler.Register.
func Register(service string, receiver any) error { return DefaultHandler.Register(service, receiver) }

// Use calls DefaultHandler.Use.
func Use(fn HandlerFunc) { DefaultHandler.Use(fn) }

// UseCoder calls DefaultHandler.UseCoder.
func UseCoder(coder MessageCoder) { DefaultHandler.UseCoder(coder) }

// HandleConnected calls DefaultHandler.HandleConnected.
func HandleConnected(fn func(*Client)) { DefaultHandler.HandleConnected(fn) }

// HandleDisconnected calls DefaultHandler.HandleDisconnected.
func HandleDisconnected(fn func(*Client)) { DefaultHandler.HandleDisconnected(fn) }

// HandleReconnect calls DefaultHandler.HandleReconnect.
func HandleReconnect(fn func(c *Client, attempt int, err error)) { DefaultHandler.HandleReconnect(fn) }

// HandleOverstock calls DefaultHandler.HandleOverstock.
func HandleOverstock(fn func(*Client)) { DefaultHandler.HandleOverstock(fn) }

// HandleMessageDropped calls DefaultHandler.HandleMessageDropped.
func HandleMessageDropped(fn func(*Client, *Message)) { DefaultHandler.HandleMessageDropped(fn) }

// HandleSessionMiss calls DefaultHandler.HandleSessionMiss.
func HandleSessionMiss(fn func(*Client, *Message)) { DefaultHandler.HandleSessionMiss(fn) }

// BeforeRecv calls DefaultHandler.BeforeRecv.
func BeforeRecv(fn func(net.Conn) error) { DefaultHandler.BeforeRecv(fn) }

// BeforeSend calls DefaultHandler.BeforeSend.
func BeforeSend(fn func(net.Conn) error) { DefaultHandler.BeforeSend(fn) }

// SetReaderWrapper calls DefaultHandler.SetReaderWrapper.
func SetReaderWrapper(fn func(net.Conn) io.Reader) { DefaultHandler.SetReaderWrapper(fn) }

// SetSendQueueSize calls DefaultHandler.SetSendQueueSize.
func SetSendQueueSize(messages int) { DefaultHandler.SetSendQueueSize(messages) }

// SetMaxBodyLen calls DefaultHandler.SetMaxBodyLen.
func SetMaxBodyLen(n int) { DefaultHandler.SetMaxBodyLen(n) }

// SetAsyncResponse calls DefaultHandler.SetAsyncResponse.
func SetAsyncResponse(async bool) { DefaultHandler.SetAsyncResponse(async) }
