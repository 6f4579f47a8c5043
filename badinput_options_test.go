package arpc_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

var badOptions = map[string]struct {
	option arpc.Option
	texts  []string // beside the option's name, which the case begins with
}{
	"WithHandler nil":                 {arpc.WithHandler(nil), []string{"nil"}},
	"WithCodec nil":                   {arpc.WithCodec(nil), []string{"nil"}},
	"WithLogger nil":                  {arpc.WithLogger(nil), []string{"nil"}},
	"WithMaxBodyLen zero":             {arpc.WithMaxBodyLen(0), []string{"not 0"}},
	"WithMaxBodyLen negative":         {arpc.WithMaxBodyLen(-7), []string{"-7"}},
	"WithSendQueue no messages":       {arpc.WithSendQueue(0, 1000), []string{"positive", "0 and 1000"}},
	"WithSendQueue no bytes":          {arpc.WithSendQueue(1000, 0), []string{"positive", "1000 and 0"}},
	"WithSendQueue negative":          {arpc.WithSendQueue(-1, -2), []string{"positive", "-1 and -2"}},
	"WithKeepalive negative interval": {arpc.WithKeepalive(-time.Second, time.Second), []string{"interval", "-1s"}},
	"WithKeepalive no timeout":        {arpc.WithKeepalive(time.Second, 0), []string{"timeout", "1s"}},
	"WithKeepalive negative timeout":  {arpc.WithKeepalive(0, -time.Second), []string{"timeout", "-1s"}},
	"WithReconnect negative attempts": {arpc.WithReconnect(1, 2, -3), []string{"attempts", "-3"}},
	"WithReconnect no base":           {arpc.WithReconnect(0, time.Second, 3), []string{"base", "0s"}},
	"WithReconnect max below base":    {arpc.WithReconnect(time.Minute, time.Second, 3), []string{"base <= max", "1m0s", "1s"}},
	"WithReadTimeout negative":        {arpc.WithReadTimeout(-time.Second), []string{"-1s"}},
	"WithWriteTimeout negative":       {arpc.WithWriteTimeout(-time.Second), []string{"-1s"}},
	"WithMaxConns negative":           {arpc.WithMaxConns(-1), []string{"-1"}},
	"WithMaxInflight zero":            {arpc.WithMaxInflight(0), []string{"positive"}},
	"WithMaxInflight negative":        {arpc.WithMaxInflight(-1), []string{"-1"}},
	"WithMaxInflightBytes zero":       {arpc.WithMaxInflightBytes(0), []string{"positive"}},
	"WithMaxInflightBytes negative":   {arpc.WithMaxInflightBytes(-1), []string{"-1"}},
	"WithMaxStreams zero":             {arpc.WithMaxStreams(0), []string{"positive"}},
	"WithMaxStreams negative":         {arpc.WithMaxStreams(-1), []string{"-1"}},
	"WithStreamQueue no messages":     {arpc.WithStreamQueue(0, 1000), []string{"positive", "0 and 1000"}},
	"WithStreamQueue no bytes":        {arpc.WithStreamQueue(1000, 0), []string{"positive", "1000 and 0"}},
	"WithStreamQueue negative":        {arpc.WithStreamQueue(-1, -1), []string{"-1"}},
	"WithVersions min zero":           {arpc.WithVersions(0, 2), []string{"min", "0 and 2"}},
	"WithVersions max three":          {arpc.WithVersions(1, 3), []string{"max", "1 and 3"}},
	"WithVersions min over max":       {arpc.WithVersions(2, 1), []string{"min <= max", "2 and 1"}},
	"WithHelloTimeout zero":           {arpc.WithHelloTimeout(0), []string{"positive", "0s"}},
	"WithHelloTimeout negative":       {arpc.WithHelloTimeout(-time.Second), []string{"positive", "-1s"}},
	"WithCompat long":                 {arpc.WithCompat(strings.Repeat("c", 1025)), []string{"at most 1024 bytes"}},
	"WithPeerName long":               {arpc.WithPeerName(strings.Repeat("n", 1025)), []string{"at most 1024 bytes"}},
	"WithCredentials nil":             {arpc.WithCredentials(nil), []string{"nil"}},
	"WithStreamWindow small":          {arpc.WithStreamWindow(1023), []string{"1024", "1023"}},
	"WithStreamWindow negative":       {arpc.WithStreamWindow(-1), []string{"-1"}},
	"WithMaxMetadata small":           {arpc.WithMaxMetadata(63), []string{"64", "63"}},
	"WithMaxMetadata negative":        {arpc.WithMaxMetadata(-1), []string{"-1"}},
	"WithCallTimeout negative":        {arpc.WithCallTimeout(-time.Second), []string{"-1s"}},
	"WithComeBackAfter negative":      {arpc.WithComeBackAfter(-time.Second), []string{"-1s"}},
	"WithIdleTimeout negative":        {arpc.WithIdleTimeout(-time.Second), []string{"-1s"}},
}

func TestBadInputOptions(t *testing.T) {
	for name, c := range badOptions {
		t.Run(name, func(t *testing.T) {
			option, _, _ := strings.Cut(name, " ")
			want := badWant{code: arpc.CodeInvalidArgument, texts: append([]string{option + ":"}, c.texts...)}
			badRefused(t, want, arpc.NewServer(c.option), c.option)
		})
	}
}

// badRefused requires that neither a client with the option nor the server
// starts.
func badRefused(t *testing.T, want badWant, s *arpc.Server, opt arpc.Option) {
	t.Helper()
	_, err := arpc.NewClient(func() (net.Conn, error) { panic("dialled") }, opt)
	want.check(t, err)
	badNotServing(t, want, s)
}

func badNotServing(t *testing.T, want badWant, s *arpc.Server) {
	t.Helper()
	want.check(t, s.Run("127.0.0.1:0"))
	ln := badListen(t)
	want.check(t, s.Serve(ln))
	_, err := ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed, "the listener is closed")
	s.Stop()
}

// The largest value that fits the wire is fine, the next is not.
func TestBadInputLargestBody(t *testing.T) {
	if math.MaxInt == math.MaxInt32 {
		return // any int fits
	}
	largest := int64(math.MaxUint32)
	_, err := arpc.NewClient(func() (net.Conn, error) { return nil, nil }, arpc.WithMaxBodyLen(int(largest)))
	require.ErrorContains(t, err, "returned no connection")
	opt := arpc.WithMaxBodyLen(int(largest + 1))
	want := badWant{code: arpc.CodeInvalidArgument, texts: []string{"WithMaxBodyLen:", "4294967296"}}
	badRefused(t, want, arpc.NewServer(opt), opt)
}

// Values that setters are given are reported by the same functions, also when
// the server or its handler is there already.
func TestBadInputSetters(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*arpc.Handler)
		text string
	}{
		"SetMaxBodyLen":    {func(h *arpc.Handler) { h.SetMaxBodyLen(0) }, "WithMaxBodyLen"},
		"SetSendQueueSize": {func(h *arpc.Handler) { h.SetSendQueueSize(-1) }, "SetSendQueueSize"},
		"SetReadTimeout":   {func(h *arpc.Handler) { h.SetReadTimeout(-1) }, "WithReadTimeout"},
		"SetWriteTimeout":  {func(h *arpc.Handler) { h.SetWriteTimeout(-1) }, "WithWriteTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			want := badWant{code: arpc.CodeInvalidArgument, texts: []string{c.text}}
			s := arpc.NewServer()
			c.set(s.Handler)
			badNotServing(t, want, s)

			h := arpc.NewHandler()
			c.set(h)
			badRefused(t, want, arpc.NewServer(arpc.WithHandler(h)), arpc.WithHandler(h))
			badNotServing(t, want, arpc.NewServer(arpc.WithHandler(h.Clone())))
		})
	}
}

// badPanic returns what f panics with.
func badPanic(t *testing.T, f func()) (text string) {
	t.Helper()
	defer func() {
		p := recover()
		require.NotNil(t, p, "no panic")
		text = fmt.Sprint(p)
	}()
	f()
	return ""
}

func TestBadInputRegistering(t *testing.T) {
	long := strings.Repeat("m", 128)
	handler, stream := func(*arpc.Context) {}, func(*arpc.Stream) {}
	for name, c := range map[string]struct {
		do    func(*arpc.Handler)
		texts []string
	}{
		"Handle nil":               {func(h *arpc.Handler) { h.Handle("/m", nil) }, []string{"Handle", `"/m"`, "nil"}},
		"Handle empty name":        {func(h *arpc.Handler) { h.Handle("", handler) }, []string{"Handle", "1 to 127", "has 0"}},
		"Handle long name":         {func(h *arpc.Handler) { h.Handle(long, handler) }, []string{"Handle", "1 to 127", "has 128"}},
		"Handle twice":             {func(h *arpc.Handler) { h.Handle("/taken", handler, true) }, []string{"Handle", `"/taken"`, "already"}},
		"HandleStream nil":         {func(h *arpc.Handler) { h.HandleStream("/m", nil) }, []string{"HandleStream", `"/m"`, "nil"}},
		"HandleStream empty name":  {func(h *arpc.Handler) { h.HandleStream("", stream) }, []string{"HandleStream", "1 to 127", "has 0"}},
		"HandleStream long name":   {func(h *arpc.Handler) { h.HandleStream(long, stream) }, []string{"HandleStream", "1 to 127", "has 128"}},
		"HandleStream twice":       {func(h *arpc.Handler) { h.HandleStream("/taken", stream) }, []string{"HandleStream", `"/taken"`, "already"}},
		"HandleNotFound nil":       {func(h *arpc.Handler) { h.HandleNotFound(nil) }, []string{"HandleNotFound", "nil"}},
		"Use nil":                  {func(h *arpc.Handler) { h.Use(nil) }, []string{"Use", "middleware", "nil"}},
		"UseCoder nil":             {func(h *arpc.Handler) { h.UseCoder(nil) }, []string{"UseCoder", "coder", "nil"}},
		"HandleConnected nil":      {func(h *arpc.Handler) { h.HandleConnected(nil) }, []string{"HandleConnected", "nil"}},
		"HandleDisconnected nil":   {func(h *arpc.Handler) { h.HandleDisconnected(nil) }, []string{"HandleDisconnected", "nil"}},
		"HandleReconnect nil":      {func(h *arpc.Handler) { h.HandleReconnect(nil) }, []string{"HandleReconnect", "nil"}},
		"HandleOverstock nil":      {func(h *arpc.Handler) { h.HandleOverstock(nil) }, []string{"HandleOverstock", "nil"}},
		"HandleMessageDropped nil": {func(h *arpc.Handler) { h.HandleMessageDropped(nil) }, []string{"HandleMessageDropped", "nil"}},
		"HandleSessionMiss nil":    {func(h *arpc.Handler) { h.HandleSessionMiss(nil) }, []string{"HandleSessionMiss", "nil"}},
		"BeforeRecv nil":           {func(h *arpc.Handler) { h.BeforeRecv(nil) }, []string{"BeforeRecv", "nil"}},
		"BeforeSend nil":           {func(h *arpc.Handler) { h.BeforeSend(nil) }, []string{"BeforeSend", "nil"}},
		"HandleAuth nil":           {func(h *arpc.Handler) { h.HandleAuth(nil) }, []string{"HandleAuth", "nil"}},
		"UseCall nil":              {func(h *arpc.Handler) { h.UseCall(nil) }, []string{"UseCall", "nil"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := arpc.NewHandler()
			h.Handle("/taken", handler)
			h.HandleStream("/taken", stream)
			text := badPanic(t, func() { c.do(h) })
			for _, want := range append(c.texts, "arpc: ") {
				require.Contains(t, text, want)
			}
			h.Handle("/free", handler) // the handler is not left locked
		})
	}
}

func TestBadInputOnDisconnected(t *testing.T) {
	pair := badConnect(t, nil, nil)
	text := badPanic(t, func() { pair.client.OnDisconnected(nil) })
	require.Contains(t, text, "OnDisconnected")
	badServed(t, pair.server, pair.client)
}

// badService has one method that can be registered, and some that cannot.
type badService struct{}

func (badService) Fine(*arpc.Context)                {}
func (badService) Number(int) int                    { return 0 }
func (badService) Variadic(context.Context, ...*int) {}

type badUnsuitable struct{}

func (badUnsuitable) Number(int) int { return 0 }

// badPointerOnly has its method on the pointer.
type badPointerOnly struct{}

func (*badPointerOnly) Fine(*arpc.Context) {}

// badTwo has two methods, of which one may be taken.
type badTwo struct{}

func (badTwo) A(*arpc.Context) {}
func (badTwo) B(*arpc.Context) {}

func TestBadInputRegister(t *testing.T) {
	invalid := func(texts ...string) badWant { return badWant{code: arpc.CodeInvalidArgument, texts: texts} }
	for name, c := range map[string]struct {
		service  string
		receiver any
		want     badWant
	}{
		"nil":                  {"svc", nil, invalid("Register", "nil")},
		"nil pointer":          {"svc", (*badPointerOnly)(nil), invalid("Register", "nil")},
		"unnamed nil pointer":  {"", (*badPointerOnly)(nil), invalid("Register", "nil")},
		"no methods":           {"svc", struct{}{}, invalid("Register", "svc", "struct {}", "no exported method")},
		"a number":             {"svc", 7, invalid("Register", "int", "no exported method")},
		"no suitable method":   {"svc", badUnsuitable{}, invalid("Register", "badUnsuitable")},
		"methods of pointer":   {"svc", badPointerOnly{}, invalid("Register", "badPointerOnly")},
		"pointer to a pointer": {"svc", new(*badPointerOnly), invalid("Register", "no exported method")},
		"type without a name":  {"", &struct{ badService }{}, invalid("Register", "no name")},
		"long name":            {strings.Repeat("s", 126), badService{}, invalid("131", "127", "sss")},
		"taken": {
			"svc", badTwo{},
			badWant{code: arpc.CodeAlreadyExists, texts: []string{"Register", `"svc.B"`, "already"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := arpc.NewHandler()
			h.Handle("svc.B", func(*arpc.Context) {})
			c.want.check(t, h.Register(c.service, c.receiver))
			h.Handle("svc.A", func(*arpc.Context) {}) // nothing was registered
			h.Handle("svc.Fine", func(*arpc.Context) {})
		})
	}
	h := arpc.NewHandler()
	require.NoError(t, h.Register("svc", badService{}))
	err := h.Register("svc", badService{})
	badWant{code: arpc.CodeAlreadyExists, texts: []string{`"svc.Fine"`}}.check(t, err)
}
