package arpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// engQuota is an error that travels as a value.
type engQuota struct {
	User string
	Left int
}

func (e engQuota) Error() string { return fmt.Sprintf("%s has %d left", e.User, e.Left) }

// engRetry is an error that travels as a pointer.
type engRetry struct{ After time.Duration }

func (e *engRetry) Error() string { return "later" }

// engVain is an error that cannot be encoded.
type engVain struct{ Why func() }

func (engVain) Error() string { return "in vain" }

func engDetails(h *arpc.Handler) {
	arpc.RegisterDetail[engQuota](h, "quota")
	arpc.RegisterDetail[*engRetry](h, "retry")
	arpc.RegisterDetail[engVain](h, "vain")
}

// engFailing has /x fail with the error that the test sets.
type engFailing struct{ err error }

func (f *engFailing) setup(server *arpc.Server, client *arpc.Handler) {
	for _, h := range []*arpc.Handler{server.Handler, client} {
		engDetails(h)
		h.Handle("/x", func(ctx *arpc.Context) { ctx.Error(f.err) })
		h.HandleStream("/x", func(s *arpc.Stream) { s.Fail(f.err) })
	}
}

// engForms are the ways in which the error of /x reaches the caller.
var engAnswers = map[string]func(c *arpc.Client) error{
	"call": func(c *arpc.Client) error { return c.Call("/x", nil, nil, time.Minute) },
	"async": func(c *arpc.Client) error {
		result := make(chan error, 1)
		err := c.CallAsync("/x", nil, func(ctx *arpc.Context) { result <- ctx.Bind(nil) }, time.Minute)
		return errors.Join(err, <-result)
	},
	"stream": func(c *arpc.Client) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s, err := c.OpenStream(ctx, "/x")
		if err != nil {
			return err
		}
		return s.Recv(nil)
	},
}

func TestV2EveryCodeTravels(t *testing.T) {
	f := &engFailing{}
	engEach(t, func(t *testing.T, p *arpctest.Pair) {
		for code := arpc.CodeCanceled; code <= arpc.CodeUnauthenticated+3; code++ {
			f.err = arpc.NewError(code, "the text")
			for _, c := range []*arpc.Client{p.Client, p.Peer()} {
				for form, call := range engAnswers {
					err := call(c)
					require.EqualError(t, err, "the text", form)
					require.Equal(t, code, arpc.CodeOf(err), form)
					require.True(t, arpc.IsRemote(err))
					require.False(t, arpc.SafeToRetry(err))
					require.NotErrorIs(t, err, context.Canceled, "it was not our context")
					require.NotErrorIs(t, err, context.DeadlineExceeded)
				}
			}
		}
	}, arpctest.Setup(f.setup))
}

// What code an error gets that has none of its own, and what text.
func TestV2CodesOfOtherErrors(t *testing.T) {
	coded := arpc.NewError(arpc.CodeAborted, "inner")
	tests := map[string]struct {
		err  error
		code arpc.Code
		text string
	}{
		"plain":        {errors.New("plain"), arpc.CodeUnknown, "plain"},
		"canceled":     {context.Canceled, arpc.CodeCanceled, "context canceled"},
		"deadline":     {context.DeadlineExceeded, arpc.CodeDeadlineExceeded, "context deadline exceeded"},
		"wrapped":      {fmt.Errorf("outer: %w", coded), arpc.CodeAborted, "outer: inner"},
		"joined":       {errors.Join(io.EOF, coded), arpc.CodeAborted, "EOF\ninner"},
		"wrapped ctx":  {fmt.Errorf("outer: %w", context.Canceled), arpc.CodeCanceled, "outer: context canceled"},
		"hidden cause": {arpc.NewError(arpc.CodeInternal, "public").WithDetail(io.EOF), arpc.CodeInternal, "public"},
		"ok":           {arpc.NewError(arpc.CodeOK, "fine?"), arpc.CodeUnknown, "fine?"},
	}
	f := &engFailing{}
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		for name, test := range tests {
			f.err = test.err
			for form, call := range engAnswers {
				err := call(p.Client)
				require.EqualError(t, err, test.text, name+" "+form)
				require.Equal(t, test.code, arpc.CodeOf(err), name+" "+form)
				require.True(t, arpc.IsRemote(err))
				require.NotErrorIs(t, err, io.EOF)
			}
		}
	}, arpctest.Setup(f.setup))
}

func TestV2CodesOfTheEngine(t *testing.T) {
	engEach(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/panic", func(*arpc.Context) { panic("secret") })
		p.Server.Handler.Handle("/forgets", func(*arpc.Context) {})
		p.Server.Handler.Handle("/unencodable", func(ctx *arpc.Context) { ctx.Write(make(chan int)) })
		p.Server.Handler.Handle("/text", func(ctx *arpc.Context) { ctx.Error("a text") })
		for method, code := range map[string]arpc.Code{
			"/panic": arpc.CodeInternal, "/forgets": arpc.CodeInternal, "/unencodable": arpc.CodeInternal,
			"/nowhere": arpc.CodeUnimplemented, "/text": arpc.CodeUnknown,
		} {
			err := p.Client.Call(method, nil, nil, time.Minute)
			require.Equal(t, code, arpc.CodeOf(err), method)
			require.True(t, arpc.IsRemote(err))
			require.NotContains(t, err.Error(), "secret")
			require.Equal(t, method == "/nowhere", errors.Is(err, arpc.ErrMethodNotFound))
		}
		s, err := p.Client.OpenStream(t.Context(), "/nowhere")
		require.NoError(t, err)
		err = s.Recv(nil)
		require.ErrorIs(t, err, arpc.ErrMethodNotFound)
		require.Equal(t, arpc.CodeUnimplemented, arpc.CodeOf(err))
		require.True(t, arpc.IsRemote(err))
	})
}

// engDetailed are errors with details, and what arrives of them.
var engDetailed = map[string]struct {
	err   error
	names []string
}{
	"value":        {engQuota{"ann", 3}, []string{"quota"}},
	"pointer":      {&engRetry{time.Second}, []string{"retry"}},
	"wrapped":      {fmt.Errorf("outer: %w", engQuota{"ann", 3}), []string{"quota"}},
	"wrapped far":  {fmt.Errorf("outer: %w", fmt.Errorf("inner: %w", engQuota{"ann", 3})), []string{"quota"}},
	"joined":       {errors.Join(io.EOF, engQuota{"ann", 3}, &engRetry{time.Second}), []string{"quota", "retry"}},
	"two by %w":    {fmt.Errorf("%w and %w", engQuota{"ann", 3}, &engRetry{time.Second}), []string{"quota", "retry"}},
	"Errorf":       {arpc.Errorf(arpc.CodeAborted, "stop: %w", engQuota{"ann", 3}), []string{"quota"}},
	"with":         {arpc.NewError(arpc.CodeAborted, "stop").WithDetail(engQuota{"ann", 3}), []string{"quota"}},
	"with two":     {arpc.NewError(arpc.CodeAborted, "stop").WithDetail(engQuota{"ann", 3}).WithDetail(&engRetry{time.Second}), []string{"quota", "retry"}},
	"twice":        {errors.Join(engQuota{"ann", 3}, engQuota{"bob", 4}), []string{"quota", "quota"}},
	"unregistered": {arpc.NewError(arpc.CodeAborted, "stop").WithDetail(io.ErrShortWrite), nil},
	"none":         {arpc.NewError(arpc.CodeAborted, "stop"), nil},
}

// engNames returns the names of the details that came with err.
func engNames(t *testing.T, err error) (names []string) {
	t.Helper()
	var e *arpc.Error
	require.ErrorAs(t, err, &e)
	for _, detail := range e.Details() {
		names = append(names, detail.Name)
	}
	return names
}

// requireDetails requires that err carries the values that the names say.
func engRequireDetails(t *testing.T, err error, names []string) {
	t.Helper()
	require.Equal(t, names, engNames(t, err))
	var quota engQuota
	var retry *engRetry
	joined := strings.Join(names, " ")
	require.Equal(t, strings.Contains(joined, "quota"), errors.As(err, &quota))
	require.Equal(t, strings.Contains(joined, "retry"), errors.As(err, &retry))
	if quota != (engQuota{}) {
		require.Equal(t, engQuota{"ann", 3}, quota)
	}
	if retry != nil {
		require.Equal(t, time.Second, retry.After)
	}
}

func TestV2DetailsTravel(t *testing.T) {
	for name, test := range engDetailed {
		t.Run(name, func(t *testing.T) {
			f := &engFailing{err: test.err}
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				for form, call := range engAnswers {
					for _, c := range []*arpc.Client{p.Client, p.Peer()} {
						err := call(c)
						require.EqualError(t, err, test.err.Error(), form)
						require.Equal(t, arpc.CodeOf(test.err), arpc.CodeOf(err))
						engRequireDetails(t, err, test.names)
					}
				}
			}, arpctest.Setup(f.setup))
		})
	}
}

// A hop in between that knows none of the types, and wraps the error maybe, changes
// nothing.
func TestV2DetailsAreRelayed(t *testing.T) {
	wraps := map[string]func(error) error{
		"as is":   func(err error) error { return err },
		"wrapped": func(err error) error { return fmt.Errorf("relayed: %w", err) },
		"coded":   func(err error) error { return arpc.Errorf(arpc.CodeOf(err), "relayed: %w", err) },
	}
	for how, wrap := range wraps {
		for name, test := range engDetailed {
			t.Run(how+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &engFailing{err: test.err}
					far := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
						engDetails(s.Handler)
						s.Handler.Handle("/x", func(ctx *arpc.Context) { ctx.Error(f.err) })
					})).Client
					near := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
						engDetails(client)
						s.Handler.Handle("/x", func(ctx *arpc.Context) { ctx.Error(wrap(far.CallWith(ctx, "/x", nil, nil))) })
					})).Client
					err := near.Call("/x", nil, nil, time.Minute)
					require.EqualError(t, err, wrap(test.err).Error())
					require.Equal(t, arpc.CodeOf(test.err), arpc.CodeOf(err))
					engRequireDetails(t, err, test.names)
				})
			})
		}
	}
}

// A hop that knows the types relays them once too.
func TestV2DetailsAreRelayedByWhoKnowsThem(t *testing.T) {
	f := &engFailing{}
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/relay", func(ctx *arpc.Context) { ctx.Error(ctx.Client.CallWith(ctx, "/x", nil, nil)) })
		for name, test := range engDetailed {
			f.err = test.err
			err := p.Client.Call("/relay", nil, nil, time.Minute)
			require.EqualError(t, err, test.err.Error(), name)
			engRequireDetails(t, err, test.names)
		}
	}, arpctest.Setup(f.setup))
}

// What this side has not registered, or cannot decode, stays as it came.
func TestV2DetailsThatAreNotKnownStayRaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := arpc.NewHandler()
		engDetails(h)
		c, p := engScripted(t, engAllFeatures, arpc.WithHandler(h))
		failed := make(chan error, 1)
		go func() { failed <- c.Call("/x", nil, nil, time.Minute) }()
		f := p.next()
		section := wire.AppendDetail(nil, "who knows", []byte{0, 1})
		section = wire.AppendDetail(section, "quota", []byte("no json"))
		section = wire.AppendDetail(section, "", nil)
		section = wire.AppendDetail(section, "retry", []byte(`{"After":1000000000}`))
		p.write(wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdResponse, Flag: wire.FlagError, Seq: f.Seq}, "/x", section, "text"))
		err := suiteNext(t, failed)
		require.Equal(t, arpc.CodeUnknown, arpc.CodeOf(err), "there was no code")
		var e *arpc.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, []string{"who knows", "quota", "", "retry"}, engNames(t, err))
		require.Equal(t, []byte{0, 1}, e.Details()[0].Data)
		require.False(t, errors.As(err, new(engQuota)))
		require.True(t, errors.As(err, new(*engRetry)))
	})
}

// Details that the peer has no room for, or that do not encode, stay behind. Code
// and text travel.
func TestV2DetailsThatAreTooLarge(t *testing.T) {
	f := &engFailing{}
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		for _, err := range []error{
			arpc.NewError(arpc.CodeAborted, "text").WithDetail(engQuota{User: strings.Repeat("x", 600)}),
			arpc.NewError(arpc.CodeAborted, "text").WithDetail(engVain{}),
		} {
			f.err = err
			for form, call := range engAnswers {
				got := call(p.Client)
				require.Equal(t, arpc.CodeAborted, arpc.CodeOf(got), form)
				require.EqualError(t, got, "text")
				require.Empty(t, engNames(t, got))
			}
		}
	}, arpctest.Setup(f.setup), arpctest.ClientOptions(arpc.WithMaxMetadata(500)))
}

// Whatever the length of an error's text, and whatever it carries, there is an
// answer.
func TestV2ErrorsAroundTheLimitOfABody(t *testing.T) {
	const limit = 8000
	f := &engFailing{}
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		for n := limit - 100; n < limit+10; n++ {
			for form, call := range engAnswers {
				f.err = arpc.NewError(arpc.CodeAborted, strings.Repeat("x", n)).WithDetail(engQuota{User: strings.Repeat("x", 400)})
				require.True(t, arpc.IsRemote(call(p.Client)), "%s %d", form, n)
			}
		}
	}, arpctest.Setup(f.setup), arpctest.ClientOptions(arpc.WithMaxBodyLen(limit)), arpctest.ServerOptions(arpc.WithMaxBodyLen(limit)))
}

// A peer that accepts little still hears of a failure.
func TestV2ErrorsForAPeerOfSmallMessages(t *testing.T) {
	f := &engFailing{}
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		for _, n := range []int{90, 100, 500, 5000} {
			for form, call := range engAnswers {
				f.err = arpc.NewError(arpc.CodeAborted, strings.Repeat("x", n))
				err := call(p.Client)
				require.NotErrorIs(t, err, context.DeadlineExceeded, "%s %d", form, n)
				require.NotErrorIs(t, err, io.EOF, "%s %d", form, n)
			}
		}
	}, arpctest.Setup(f.setup), arpctest.ClientOptions(arpc.WithMaxBodyLen(100)))
}

// A response with metadata just at the limit of a body arrives, or is an error.
func TestV2ResponseWithMetadataAtTheLimitOfABody(t *testing.T) {
	const limit = 4096
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			ctx.SetMetadata("a", "1")
			ctx.Write(make([]byte, len(ctx.Body())))
		})
		for n := limit - 100; n < limit-2; n++ {
			var body []byte
			err := p.Client.CallWith(t.Context(), "/x", make([]byte, n), &body)
			require.True(t, err == nil && len(body) == n || arpc.CodeOf(err) == arpc.CodeResourceExhausted && arpc.IsRemote(err), "%d: %v", n, err)
		}
	}, arpctest.ServerOptions(arpc.WithMaxBodyLen(limit)), arpctest.ClientOptions(arpc.WithMaxBodyLen(limit)))
}

func TestV2DetailsToVersion1AreTextAlone(t *testing.T) {
	for name, opt := range map[string]arpctest.Option{"client": arpctest.ClientOptions(engOld), "server": arpctest.ServerOptions(engOld)} {
		t.Run(name, func(t *testing.T) {
			f := &engFailing{err: arpc.NewError(arpc.CodeAborted, "text").WithDetail(engQuota{"ann", 3})}
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				err := p.Client.Call("/x", nil, nil, time.Minute)
				require.EqualError(t, err, "text")
				require.Equal(t, arpc.CodeUnknown, arpc.CodeOf(err))
				require.Empty(t, engNames(t, err))
			}, opt, arpctest.Setup(f.setup))
		})
	}
}
