package arpc_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

const regWait = 5 * time.Second

func regServe(t *testing.T) (*arpc.Server, string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := arpc.NewServer()
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	return s, ln.Addr().String()
}

func regDial(t *testing.T, addr string) *arpc.Client {
	c, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) })
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c
}

func regTake(t *testing.T, from <-chan any) any {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(regWait):
		require.FailNow(t, "nothing came")
		return nil
	}
}

type regRequest struct{ A, B int }

type regReply struct{ Sum int }

// regCalc has methods of all shapes that Register takes.
type regCalc struct{ base int }

func (c *regCalc) Add(_ context.Context, req *regRequest) (*regReply, error) {
	return &regReply{c.base + req.A + req.B}, nil
}

func (c *regCalc) Fill(_ context.Context, req *regRequest, rsp *regReply) {
	rsp.Sum = c.base + req.A + req.B
}

func (c *regCalc) Raw(ctx *arpc.Context) {
	req := regRequest{}
	if err := ctx.Bind(&req); err != nil {
		ctx.Error(err)
		return
	}
	ctx.Write(regReply{c.base + req.A + req.B})
}

// regSums is a service whose methods have a value receiver.
type regSums int

func (s regSums) Add(_ context.Context, req *regRequest) (*regReply, error) {
	return &regReply{int(s) + req.A + req.B}, nil
}

func regConnect(t *testing.T, service string, receiver any) *arpc.Client {
	s, addr := regServe(t)
	require.NoError(t, s.Handler.Register(service, receiver))
	return regDial(t, addr)
}

func TestRegisterShapes(t *testing.T) {
	for name, c := range map[string]struct {
		service  string
		receiver any
		methods  []string
	}{
		"pointer":          {"calc", &regCalc{100}, []string{"calc.Add", "calc.Fill", "calc.Raw"}},
		"name of the type": {"", &regCalc{100}, []string{"regCalc.Add", "regCalc.Fill", "regCalc.Raw"}},
		"value":            {"sums", regSums(100), []string{"sums.Add"}},
		"name of a value":  {"", regSums(100), []string{"regSums.Add"}},
		"pointer to value": {"sums", new(regSums(100)), []string{"sums.Add"}},
		"embedded":         {"both", struct{ *regCalc }{&regCalc{100}}, []string{"both.Add", "both.Fill", "both.Raw"}},
		"any bytes":        {"/v1/calc", &regCalc{100}, []string{"/v1/calc.Add"}},
	} {
		t.Run(name, func(t *testing.T) {
			client := regConnect(t, c.service, c.receiver)
			for _, method := range c.methods {
				reply := regReply{}
				require.NoError(t, client.Call(method, regRequest{20, 3}, &reply, regWait), method)
				require.Equal(t, 123, reply.Sum, method)
			}
		})
	}
}

// regMixed has methods that Register leaves alone.
type regMixed struct{}

func (regMixed) Fine(context.Context, *string) (*string, error)       { return nil, nil }
func (regMixed) NoContext(*regRequest) (*regReply, error)             { return nil, nil }
func (regMixed) ContextAlone(context.Context) (*regReply, error)      { return nil, nil }
func (regMixed) RequestValue(context.Context, regRequest) error       { return nil }
func (regMixed) OneResult(context.Context, *regRequest) error         { return nil }
func (regMixed) NoError(context.Context, *regRequest) (int, int)      { return 0, 0 }
func (regMixed) ReplyValue(context.Context, *regRequest, regReply)    {}
func (regMixed) Many(context.Context, *regRequest, ...*regReply)      {}
func (regMixed) Four(context.Context, *int, *int, *int)               {}
func (regMixed) Both(context.Context, *int, *int) error               { return nil }
func (regMixed) Nothing()                                             {}
func (regMixed) Context(*arpc.Context) error                          { return nil }
func (regMixed) unexported(context.Context, *string) (*string, error) { return nil, nil }

func TestRegisterLeavesOthersAlone(t *testing.T) {
	regMixed{}.unexported(t.Context(), nil)
	client := regConnect(t, "mixed", regMixed{})
	require.NoError(t, client.Call("mixed.Fine", "x", nil, regWait))
	for _, method := range []string{
		"NoContext", "ContextAlone", "RequestValue", "OneResult", "NoError", "ReplyValue",
		"Many", "Four", "Both", "Nothing", "Context", "unexported",
	} {
		require.ErrorIs(t, client.Call("mixed."+method, "x", nil, regWait), arpc.ErrMethodNotFound, method)
	}
}

// regFailing fails in every way a method can.
type regFailing struct{}

var errReg = errors.New("out of tea")

func (regFailing) Plain(context.Context, *string) (*string, error) { return nil, errReg }

func (regFailing) Coded(context.Context, *string) (*string, error) {
	return new("not sent"), arpc.NewError(arpc.CodeNotFound, "no such tea")
}

func (regFailing) Wrapped(context.Context, *string) (*string, error) {
	return nil, arpc.Errorf(arpc.CodeAborted, "brewing: %w", errReg)
}

func (regFailing) Filling(ctx context.Context, _ *string, rsp *string) {
	*rsp = "not sent"
	ctx.(*arpc.Context).Error("spilled")
}

func (regFailing) Panics(context.Context, *string) (*string, error) { panic("the pot broke") }

func (regFailing) PanicsFilling(context.Context, *string, *string) { panic("the pot broke") }

func (regFailing) Silent(*arpc.Context) {}

func (regFailing) Unencodable(context.Context, *string) (chan int, error) {
	return make(chan int), nil
}

func TestRegisterErrors(t *testing.T) {
	client := regConnect(t, "failing", regFailing{})
	for method, text := range map[string]string{
		"Plain":         "out of tea",
		"Coded":         "no such tea",
		"Wrapped":       "brewing: out of tea",
		"Filling":       "spilled",
		"Panics":        "panicked",
		"PanicsFilling": "panicked",
		"Silent":        "without an answer",
		"Unencodable":   "chan int",
	} {
		t.Run(method, func(t *testing.T) {
			rsp := ""
			err := client.Call("failing."+method, "x", &rsp, regWait)
			require.ErrorContains(t, err, text)
			require.NotContains(t, err.Error(), "the pot broke", "what a panic says stays here")
			require.True(t, arpc.IsRemote(err))
			require.Empty(t, rsp)
		})
	}
}

// A request that cannot be decoded never reaches the method.
func TestRegisterUndecodable(t *testing.T) {
	client := regConnect(t, "calc", &regCalc{})
	for _, method := range []string{"calc.Add", "calc.Fill", "calc.Raw"} {
		err := client.Call(method, "no JSON", nil, regWait)
		require.ErrorContains(t, err, "decode", method)
		require.ErrorContains(t, err, "regRequest", method)
		require.True(t, arpc.IsRemote(err), method)
	}
}

// regEcho answers values that pass no codec, and nothing.
type regEcho struct{}

func (regEcho) Text(_ context.Context, req *string) (*string, error) { return req, nil }
func (regEcho) Bytes(_ context.Context, req *[]byte) ([]byte, error) { return *req, nil }
func (regEcho) TextFilled(_ context.Context, req, rsp *string)       { *rsp = *req }
func (regEcho) Nil(context.Context, *string) (*string, error)        { return nil, nil }
func (regEcho) NilStruct(context.Context, *string) (*regReply, error) {
	return nil, nil
}
func (regEcho) Map(_ context.Context, req *map[string]int) (map[string]int, error) {
	return *req, nil
}

func TestRegisterValues(t *testing.T) {
	client := regConnect(t, "echo", regEcho{})
	for method, want := range map[string]string{
		"Text": `{"a":1}`, "Bytes": `{"a":1}`, "TextFilled": `{"a":1}`, "Map": `{"a":1}`, "Nil": "", "NilStruct": "",
	} {
		rsp := "untouched"
		require.NoError(t, client.Call("echo."+method, `{"a":1}`, &rsp, regWait), method)
		require.Equal(t, want, rsp, method)
	}
}

// regContexts hands out what its methods see of the context.
type regContexts struct{ seen chan any }

func (c regContexts) Returning(ctx context.Context, _ *string) (*string, error) {
	c.seen <- ctx.Value("who")
	ours := ctx.(*arpc.Context)
	return new(ours.Message.Method()), ours.Client.Notify("/told", "x", regWait)
}

func (c regContexts) Waiting(ctx context.Context, _, _ *string) {
	c.seen <- "waiting"
	<-ctx.Done()
	c.seen <- ctx.Err()
}

// The context of a method is the Context of the request: middleware's values,
// the client to call back, and an end when the connection ends.
func TestRegisterContext(t *testing.T) {
	s, addr := regServe(t)
	s.Handler.Use(func(ctx *arpc.Context) { ctx.Set("who", "middleware") })
	seen := make(chan any, 1)
	require.NoError(t, s.Handler.Register("ctx", regContexts{seen}))
	client := regDial(t, addr)
	told := make(chan any, 1)
	client.Handler.Handle("/told", func(*arpc.Context) { told <- "told" })

	rsp := ""
	require.NoError(t, client.Call("ctx.Returning", nil, &rsp, regWait))
	require.Equal(t, "ctx.Returning", rsp)
	require.Equal(t, "middleware", regTake(t, seen))
	require.Equal(t, "told", regTake(t, told))

	require.NoError(t, client.CallAsync("ctx.Waiting", nil, func(*arpc.Context) {}, regWait))
	require.Equal(t, "waiting", regTake(t, seen))
	client.Stop()
	require.Equal(t, context.Canceled, regTake(t, seen))
}

// Services of several names share a handler, and a notification reaches a
// method as well.
func TestRegisterNotification(t *testing.T) {
	s, addr := regServe(t)
	seen := make(chan any, 1)
	require.NoError(t, s.Handler.Register("one", regContexts{seen}))
	require.NoError(t, s.Handler.Register("two", regContexts{seen}))
	client := regDial(t, addr)
	for _, service := range []string{"one", "two"} {
		require.NoError(t, client.Notify(service+".Returning", "x", regWait))
		require.Nil(t, regTake(t, seen))
	}
}

// Register of the package counts for servers made later.
func TestRegisterPackage(t *testing.T) {
	before := arpc.DefaultHandler
	defer func() { arpc.DefaultHandler = before }()
	arpc.DefaultHandler = arpc.NewHandler()
	require.NoError(t, arpc.Register("calc", &regCalc{1}))
	_, addr := regServe(t)
	reply := regReply{}
	require.NoError(t, regDial(t, addr).Call("calc.Add", regRequest{2, 3}, &reply, regWait))
	require.Equal(t, 6, reply.Sum)
}
