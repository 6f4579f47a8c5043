package arpctest

import "github.com/arpc-go/arpc"

// Option configures New and Each. Options of the same kind add up.
type Option func(*config)

type config struct {
	worlds []World
	server []arpc.Option
	client []arpc.Option
	setup  []func(*arpc.Server, *arpc.Handler)
}

func newConfig(opts []Option) *config {
	cfg := &config{}
	for _, opt := range opts {
		opt(cfg)
	}
	if len(cfg.worlds) == 0 {
		cfg.worlds = usual()
	}
	return cfg
}

// ServerOptions are for NewServer.
func ServerOptions(opts ...arpc.Option) Option {
	return func(cfg *config) { cfg.server = append(cfg.server, opts...) }
}

// ClientOptions are for NewClient, and for what Pair.Dial connects.
func ClientOptions(opts ...arpc.Option) Option {
	return func(cfg *config) { cfg.client = append(cfg.client, opts...) }
}

// Setup has fn called before anything is connected, to register routes and
// hooks: those of the server with server.Handler, those of the client with the
// handler it is going to have.
func Setup(fn func(server *arpc.Server, client *arpc.Handler)) Option {
	return func(cfg *config) { cfg.setup = append(cfg.setup, fn) }
}

// Over has Each run over these worlds instead of all, such as Worlds()... for
// what peers of version 1 cannot do. New ignores it.
func Over(worlds ...World) Option {
	return func(cfg *config) { cfg.worlds = append(cfg.worlds, worlds...) }
}
