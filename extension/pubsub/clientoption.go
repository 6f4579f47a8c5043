package pubsub

import (
	"context"
	"log/slog"

	"github.com/arpc-go/arpc"
)

// clientSettings is what a client is set to.
type clientSettings struct {
	password    string
	passwordSet bool
	token       func(context.Context) ([]byte, error)
	logger      *slog.Logger
	handler     *arpc.Handler
	options     []arpc.Option
}

// WithToken has a client authenticate with what fn returns, which is asked for each
// connection anew, before anything else is sent. An error of it is an error to
// connect. The context ends with the hello timeout, arpc.WithHelloTimeout. Servers of
// version 1 know passwords only.
func WithToken(fn func(context.Context) ([]byte, error)) Option {
	return Option{name: "WithToken", client: func(s *clientSettings) { s.token = fn }}
}

// WithClientOptions passes options on to arpc.NewClient. Of arpc.WithHandler and
// arpc.WithCredentials WithClientHandler and WithToken take the place.
func WithClientOptions(opts ...arpc.Option) Option {
	return Option{name: "WithClientOptions", client: func(s *clientSettings) { s.options = append(s.options, opts...) }}
}

// WithClientHandler has a client use a clone of h, with its routes, middleware and
// hooks. Default: of arpc.DefaultHandler.
func WithClientHandler(h *arpc.Handler) Option {
	return Option{name: "WithClientHandler", client: func(s *clientSettings) { s.handler = h }}
}
