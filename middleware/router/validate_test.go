package router_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/router"
)

// order is a Validator through its pointer, parcel through its value.
type order struct{ Count int }

func (o *order) Validate() error {
	if o.Count < 1 {
		return fmt.Errorf("count is %d, at least 1 is needed", o.Count)
	}
	return nil
}

type parcel struct{ To string }

func (p parcel) Validate() error {
	if p.To == "" {
		return &fieldError{Field: "to"}
	}
	return nil
}

type fieldError struct{ Field string }

func (e *fieldError) Error() string { return e.Field + " is missing" }

type fussy struct{}

func (fussy) Validate() error { panic("the secret") }

func TestValidateTypedRequests(t *testing.T) {
	orders := arpc.NewMethod[order, string]("/order")
	parcels := arpc.NewMethod[*parcel, string]("/parcel")
	each(t, func(t *testing.T, world arpctest.World) {
		handled := 0
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(router.Validate())
			orders.Handle(h, func(_ context.Context, o *order) (*string, error) { handled++; return new("done"), nil })
			parcels.Handle(h, func(_ context.Context, q **parcel) (*string, error) { handled++; return &(*q).To, nil })
			h.Handle("/plain", func(ctx *arpc.Context) {
				var n int
				if err := ctx.Bind(&n); err != nil {
					ctx.Error(err)
					return
				}
				ctx.Write(n)
			})
		})
		for _, c := range []struct {
			method  string
			request any
			says    string
		}{
			{"/order", &order{Count: 1}, ""},
			{"/order", &order{}, "count is 0, at least 1 is needed"},
			{"/order", nil, "count is 0, at least 1 is needed"}, // an empty payload is no way around it
			{"/order", "null", "count is 0, at least 1 is needed"},
			{"/order", "{}", "count is 0, at least 1 is needed"},
			{"/parcel", &parcel{To: "you"}, ""},
			{"/parcel", &parcel{}, "to is missing"},
			{"/parcel", nil, "the value is missing"},
			{"/parcel", "null", "the value is missing"},
			{"/plain", 7, ""},
		} {
			before := handled
			err := p.Client.CallWith(t.Context(), c.method, c.request, nil)
			if c.says == "" {
				require.NoError(t, err)
				continue
			}
			require.Equal(t, code(p, arpc.CodeInvalidArgument), arpc.CodeOf(err), "%s %v", c.method, c.request)
			require.EqualError(t, err, c.says)
			require.Equal(t, before, handled, "the handler did not run")
		}
		require.Equal(t, 2, handled)
	})
}

// A handler gets the error from Bind, and what it passes on has the code.
func TestValidateBind(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		binds := map[string]func(ctx *arpc.Context) error{
			"value":             func(ctx *arpc.Context) error { var o order; return ctx.Bind(&o) },
			"pointer":           func(ctx *arpc.Context) error { var o *order; return ctx.Bind(&o) },
			"pointer to it":     func(ctx *arpc.Context) error { o := new(order); return ctx.Bind(&o) },
			"in an interface":   func(ctx *arpc.Context) error { var v any = new(order); return ctx.Bind(&v) },
			"as a Validator":    func(ctx *arpc.Context) error { v := router.Validator(new(order)); return ctx.Bind(&v) },
			"behind a middle":   func(ctx *arpc.Context) error { var o order; ctx.Next(); return ctx.Bind(&o) },
			"detached":          func(ctx *arpc.Context) error { var o order; return ctx.Detach().Bind(&o) },
			"bytes are no such": func(ctx *arpc.Context) error { var b []byte; return ctx.Bind(&b) },
		}
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(router.Validate())
			h.Handle("/bind", func(ctx *arpc.Context) {
				failed := make(map[string]string)
				for name, bind := range binds {
					if err := bind(ctx); err != nil {
						failed[name] = arpc.CodeOf(err).String() + ": " + err.Error()
					}
				}
				ctx.Client.NotifyWith(ctx, "/failed", failed)
			})
		}, arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) {
			client.Handle("/failed", func(ctx *arpc.Context) {
				var failed map[string]string
				if err := ctx.Bind(&failed); err == nil {
					ctx.Client.Set("failed", failed)
				}
			})
		}))
		want := make(map[string]string)
		for name := range binds {
			if name != "bytes are no such" {
				want[name] = "InvalidArgument: count is -1, at least 1 is needed"
			}
		}
		require.NoError(t, p.Client.NotifyWith(t.Context(), "/bind", order{Count: -1}))
		settle()
		failed, _ := p.Client.Get("failed")
		require.Equal(t, want, failed)
	})
}

func TestValidateOnlyBehindIt(t *testing.T) {
	orders := arpc.NewMethod[order, string]("/order")
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			orders.Handle(h, func(context.Context, *order) (*string, error) { return new("done"), nil })
			h.Use(router.Validate())
		})
		_, err := orders.Call(t.Context(), p.Client, &order{})
		require.NoError(t, err, "the route was registered before")
	})
}

// The error that Validate returns is in the process's error, and its details travel.
func TestValidateKeepsDetails(t *testing.T) {
	parcels := arpc.NewMethod[parcel, string]("/parcel")
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			arpc.RegisterDetail[*fieldError](h, "field")
			h.Use(router.Validate())
			parcels.Handle(h, func(context.Context, *parcel) (*string, error) { return new("done"), nil })
		}, arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) { arpc.RegisterDetail[*fieldError](client, "field") }))
		_, err := parcels.Call(t.Context(), p.Client, &parcel{})
		var field *fieldError
		require.True(t, errors.As(err, &field))
		require.Equal(t, "to", field.Field)
	})
}

// A typed notification that makes no sense counts as dropped.
func TestValidateNotifications(t *testing.T) {
	orders := arpc.NewNotice[order]("/ordered")
	each(t, func(t *testing.T, world arpctest.World) {
		var dropped []string
		handled := 0
		p := serve(t, world, func(h *arpc.Handler) {
			h.HandleMessageDropped(func(_ *arpc.Client, m *arpc.Message) { dropped = append(dropped, m.Method()) })
			h.Use(router.Validate())
			orders.Handle(h, func(context.Context, *order) { handled++ })
		})
		for _, count := range []int{1, 0, -1, 2} {
			require.NoError(t, orders.Notify(t.Context(), p.Client, &order{Count: count}))
		}
		settle()
		require.Equal(t, 2, handled)
		require.Equal(t, []string{"/ordered", "/ordered"}, dropped)
	})
}

// A panic in Validate is one of the handler.
func TestValidateThatPanics(t *testing.T) {
	method := arpc.NewMethod[fussy, string]("/fussy")
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(router.Validate())
			method.Handle(h, func(context.Context, *fussy) (*string, error) { return new("done"), nil })
		})
		_, err := method.Call(t.Context(), p.Client, new(fussy))
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
		require.NotContains(t, err.Error(), "secret")
	})
}

// Messages of streams do not pass it: their handlers ask themselves.
func TestValidateOfStreams(t *testing.T) {
	orders := arpc.NewStreamMethod[order, string]("/orders")
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(router.Validate())
			orders.Handle(h, func(_ context.Context, s *arpc.TypedStream[string, order]) error {
				for o, err := range s.RecvSeq() {
					if err == nil {
						err = router.CheckValid(o)
					}
					if err != nil {
						return err
					}
					if err := s.Send(new("done")); err != nil {
						return err
					}
				}
				return nil
			})
		})
		s, err := orders.Open(t.Context(), p.Client)
		require.NoError(t, err)
		require.NoError(t, s.Send(&order{Count: 1}))
		_, err = s.Recv()
		require.NoError(t, err)
		require.NoError(t, s.Send(&order{}))
		_, err = s.Recv()
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
		require.EqualError(t, err, "count is 0, at least 1 is needed")
	})
}

func TestCheckValid(t *testing.T) {
	good, bad := &order{Count: 1}, &order{}
	var none *order
	var noValidator router.Validator
	var nothing any
	for name, c := range map[string]struct {
		v    any
		says string
	}{
		"a value":                    {good, ""},
		"by value":                   {parcel{To: "you"}, ""},
		"one that makes no sense":    {bad, "count is 0, at least 1 is needed"},
		"by value, makes no sense":   {parcel{}, "to is missing"},
		"a pointer to it":            {new(new(parcel)), "to is missing"},
		"pointers to it":             {new(&bad), "count is 0, at least 1 is needed"},
		"no value":                   {none, "the value is missing"},
		"a pointer to no value":      {&none, "the value is missing"},
		"an interface without value": {&noValidator, "the value is missing"},
		"an interface":               {new(router.Validator(bad)), "count is 0, at least 1 is needed"},
		"any":                        {new(any(bad)), "count is 0, at least 1 is needed"},
		"nothing":                    {nothing, ""},
		"a pointer to nothing":       {&nothing, ""},
		"no Validator":               {new(7), ""},
		"a map":                      {map[string]int{}, ""},
		"no function is called":      {struct{ Validate func() error }{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := router.CheckValid(c.v)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.says)
			require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
		})
	}
}
