package router_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/router"
)

// account is an identity with roles.
type account struct {
	name  string
	roles []string
}

func (a account) HasRole(role string) bool { return slices.Contains(a.roles, role) }

// identities are stored by a login handler, whatever the version of the wire is.
var identities = map[string]any{
	"nobody":   nil,
	"ann":      account{"ann", []string{"admin"}},
	"bob":      account{"bob", []string{"operator", "auditor"}},
	"cid":      account{name: "cid"},
	"a string": "admin", // it has no roles, whatever it says
}

func authRules() *router.Auth {
	return router.NewAuth(
		router.Allow(router.Known(), "/*"),
		router.Allow(router.Anyone(), "/login", "/public/*"),
		router.Allow(router.Role("admin"), "/admin/*", "arpc.*"),
		router.Allow(router.Role("admin", "auditor"), "/admin/log*"),
		router.Allow(router.Known(), "/admin/log/mine"),
		router.Allow(router.Checked(func(in router.Incoming) error {
			switch a, _ := in.Client.Identity().(account); {
			case a.name == in.Metadata()["owner"]:
				return nil
			case in.Metadata()["owner"] == "down":
				return arpc.NewError(arpc.CodeUnavailable, "the directory is down")
			}
			return errors.New("the secret reason")
		}), "/owned/*"),
	)
}

func TestAuth(t *testing.T) {
	open := map[string]arpc.Code{}
	known := map[string]arpc.Code{"nobody": arpc.CodeUnauthenticated}
	admins := map[string]arpc.Code{
		"nobody": arpc.CodeUnauthenticated, "bob": arpc.CodePermissionDenied, "cid": arpc.CodePermissionDenied, "a string": arpc.CodePermissionDenied,
	}
	closed := map[string]arpc.Code{
		"nobody": arpc.CodeUnauthenticated, "ann": arpc.CodePermissionDenied, "bob": arpc.CodePermissionDenied, "cid": arpc.CodePermissionDenied, "a string": arpc.CodePermissionDenied,
	}
	routes := map[string]map[string]arpc.Code{ // what is refused
		"/login": open, "/public/": open, "/public/a/b": open,
		"/public": known, "/": known, "/anything": known, "/login/": known, "/Login": known, "/admin": known, "/admin/log/mine": known,
		"/admin/": admins, "/admin/stop": admins, "/admin/lo": admins, "arpc.routes": admins,
		"/admin/log": without(admins, "bob"), "/admin/logs": without(admins, "bob"), "/admin/log/mine/too": without(admins, "bob"),
		"admin/stop": closed, "arpc": closed, "\x00": closed,
	}
	each(t, func(t *testing.T, world arpctest.World) {
		auth := authRules()
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(auth.Handler())
			h.HandleNotFound(func(ctx *arpc.Context) { ctx.Write("through") })
		})
		refused := uint64(0)
		for method, denied := range routes {
			for who, identity := range identities {
				p.Peer().SetIdentity(identity)
				err := p.Client.CallWith(t.Context(), method, nil, nil)
				want, no := denied[who]
				if !no {
					require.NoError(t, err, "%s for %s", method, who)
					continue
				}
				refused++
				require.Equal(t, code(p, want), arpc.CodeOf(err), "%s for %s", method, who)
				require.EqualError(t, err, map[arpc.Code]string{
					arpc.CodeUnauthenticated: "not authenticated", arpc.CodePermissionDenied: "permission denied",
				}[want])
			}
		}
		require.Equal(t, refused, auth.Refused())
		require.Zero(t, auth.Dropped())
	})
}

func without(codes map[string]arpc.Code, who string) map[string]arpc.Code {
	rest := make(map[string]arpc.Code)
	for name, code := range codes {
		if name != who {
			rest[name] = code
		}
	}
	return rest
}

// Of an error that a check returns the peer learns what has a code.
func TestAuthChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(authRules().Handler())
			h.Handle("/owned/thing", answering)
		})
		call := func(owner string) error {
			ctx := arpc.ContextWithMetadata(t.Context(), arpc.Metadata{"owner": owner})
			return p.Client.CallWith(ctx, "/owned/thing", nil, nil)
		}
		require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(call("ann")))
		p.Peer().SetIdentity(identities["ann"])
		require.NoError(t, call("ann"))
		err := call("bob")
		require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(err))
		require.EqualError(t, err, "permission denied")
		err = call("down")
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.EqualError(t, err, "the directory is down")
	})
}

// The identity is what the authentication hook has stored.
func TestAuthOverTheIdentityOfTheHello(t *testing.T) {
	for name, want := range map[string]arpc.Code{"ann": arpc.CodeOK, "cid": arpc.CodePermissionDenied, "nobody": arpc.CodeUnauthenticated} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
					h.HandleAuth(func(_ context.Context, c *arpc.Client, credentials []byte) error {
						c.SetIdentity(identities[string(credentials)])
						return nil
					})
					h.Use(authRules().Handler())
					h.Handle("/admin/stop", answering)
				}, arpctest.ClientOptions(arpc.WithCredentials(func(context.Context) ([]byte, error) { return []byte(name), nil })))
				require.Equal(t, want, arpc.CodeOf(p.Client.CallWith(t.Context(), "/admin/stop", nil, nil)))
			})
		})
	}
}

// A login changes what its connection may, from the next message on.
func TestAuthAfterALogin(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(authRules().Handler())
			h.Handle("/login", func(ctx *arpc.Context) {
				ctx.Client.SetIdentity(identities[string(ctx.Body())])
				ctx.Write(nil)
			})
			h.Handle("/admin/stop", answering)
		})
		require.EqualError(t, p.Client.CallWith(t.Context(), "/admin/stop", nil, nil), "not authenticated")
		require.NoError(t, p.Client.CallWith(t.Context(), "/login", "ann", nil))
		require.NoError(t, p.Client.CallWith(t.Context(), "/admin/stop", nil, nil))
		other := p.Dial()
		require.EqualError(t, other.CallWith(t.Context(), "/admin/stop", nil, nil), "not authenticated", "it is about one connection")
	})
}

func TestAuthDropsNotifications(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		auth := authRules()
		handled := 0
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(auth.Handler())
			h.Handle("/admin/stop", func(*arpc.Context) { handled++ })
		})
		for _, who := range []string{"nobody", "cid", "ann"} {
			p.Peer().SetIdentity(identities[who])
			require.NoError(t, p.Client.NotifyWith(t.Context(), "/admin/stop", nil))
			synctest.Wait()
		}
		require.Equal(t, 1, handled)
		require.Equal(t, uint64(2), auth.Dropped())
		require.Zero(t, auth.Refused())
	})
}

// With UseStream there is no way around it through streams, typed ones included.
func TestAuthOfStreams(t *testing.T) {
	tail := arpc.NewStreamMethod[string, string]("/admin/tail")
	each(t, func(t *testing.T, world arpctest.World) {
		auth := authRules()
		handled := 0
		p := serve(t, world, func(h *arpc.Handler) {
			h.UseStream(auth.Stream)
			count := func(s *arpc.Stream) { handled++; echoStream(s) }
			h.HandleStream("/admin/echo", count)
			h.HandleStream("/public/echo", count)
			h.HandleStream("/owned/echo", count)
			h.HandleStream("nowhere", count)
			tail.Handle(h, func(_ context.Context, s *arpc.TypedStream[string, string]) error { count(s.Stream()); return nil })
		})
		for _, c := range []struct {
			who, method string
			code        arpc.Code
		}{
			{"nobody", "/public/echo", arpc.CodeOK},
			{"nobody", "/admin/echo", arpc.CodeUnauthenticated},
			{"nobody", "/admin/tail", arpc.CodeUnauthenticated},
			{"nobody", "/owned/echo", arpc.CodeUnauthenticated},
			{"cid", "/admin/tail", arpc.CodePermissionDenied},
			{"cid", "/owned/echo", arpc.CodePermissionDenied},
			{"ann", "nowhere", arpc.CodePermissionDenied},
			{"ann", "/admin/echo", arpc.CodeOK},
			{"ann", "/admin/tail", arpc.CodeOK},
		} {
			p.Peer().SetIdentity(identities[c.who])
			before := handled
			s, err := p.Client.OpenStream(t.Context(), c.method)
			require.NoError(t, err)
			s.Send("hello") // or a refusal was quicker, which Recv tells
			var text string
			switch err = s.Recv(&text); {
			case c.code == arpc.CodeOK:
				require.NoError(t, err, "%s for %s", c.method, c.who)
				require.Equal(t, "hello", text)
				continue
			case p.Version == 1:
				require.ErrorIs(t, err, io.EOF, "version 1 knows no other end")
			default:
				require.Equal(t, c.code, arpc.CodeOf(err), "%s for %s", c.method, c.who)
			}
			require.Equal(t, before, handled)
		}
		require.Equal(t, uint64(6), auth.Refused())
	})
}

func TestAuthThatMakesNoSensePanics(t *testing.T) {
	for name, fn := range map[string]func(){
		"no pattern":         func() { router.NewAuth(router.Allow(router.Known())) },
		"an empty pattern":   func() { router.NewAuth(router.Allow(router.Known(), "")) },
		"a star inside":      func() { router.NewAuth(router.Allow(router.Known(), "/*/x")) },
		"two stars":          func() { router.NewAuth(router.Allow(router.Known(), "/**")) },
		"twice":              func() { router.NewAuth(router.Allow(router.Known(), "/x"), router.Allow(router.Anyone(), "/x")) },
		"a beginning twice":  func() { router.NewAuth(router.Allow(router.Known(), "/x*", "/x*")) },
		"too long":           func() { router.NewAuth(router.Allow(router.Known(), strings.Repeat("x", 128))) },
		"no role":            func() { router.Role() },
		"no check":           func() { router.Checked(nil) },
		"Only nothing":       func() { router.Only(answering) },
		"Only without":       func() { router.Only(nil, "/x") },
		"Only a star inside": func() { router.Only(answering, "*x") },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, fn) })
	}
	require.NotPanics(t, func() { router.NewAuth(router.Allow(router.Known(), "/x", "/x*", "*")) })
}

// Only matches what strings.HasPrefix and == say, and of two rules the one about
// more of the name counts, whatever the patterns are.
func FuzzPatterns(f *testing.F) {
	f.Add("/admin/*", "/admin/stop", "/admin/stop")
	f.Add("*", "/a", "/b")
	f.Add("/a", "/a*", "/a")
	f.Add("/", "\xff*", "\xff\xfe")
	server := arpc.NewServer()
	f.Fuzz(func(t *testing.T, one, two, method string) {
		if method == "" || len(method) > 127 || !plain(one) || !plain(two) || one == two {
			return // there is no such method, or it panics
		}
		ctx := &arpc.Context{Client: new(arpc.Client), Message: server.NewMessage(arpc.CmdNotify, method, nil)}
		ran := false
		router.Only(func(*arpc.Context) { ran = true }, one, two)(ctx)
		require.Equal(t, matches(one, method) || matches(two, method), ran)

		auth := router.NewAuth(router.Allow(router.Anyone(), one), router.Allow(router.Known(), two))
		auth.Handler()(ctx)
		open := matches(one, method) && (!matches(two, method) || closer(one, two, method))
		require.Equal(t, open, auth.Dropped() == 0)
	})
}

func plain(pattern string) bool {
	return pattern != "" && len(pattern) <= 127 && !strings.Contains(pattern[:len(pattern)-1], "*")
}

func matches(pattern, method string) bool {
	if beginning, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(method, beginning)
	}
	return pattern == method
}

// closer reports which of two patterns that match says more of a method.
func closer(a, b, method string) bool {
	return a == method && !strings.HasSuffix(a, "*") || len(a) > len(b) && b != method
}
