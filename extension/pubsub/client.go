package pubsub

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/internal/transient"
)

// Client subscribes and publishes. It is an arpc.Client besides: both ends may call,
// notify and stream over the same connection, and the client comes back when it is
// lost, with its subscriptions. Its methods may be called from any goroutine at any
// time, also in callbacks.
//
// With a server of version 1 of the wire Subscribe, Unsubscribe, Publish and
// PublishToOne work as they did; what such servers do not know fails with
// CodeFailedPrecondition.
type Client struct {
	*arpc.Client
	// Password is what Authenticate sends, for programs that set it after NewClient.
	// WithPassword and WithToken spare both.
	Password string

	// Set by NewClient, never changed.
	settings clientSettings
	logger   *slog.Logger
	life     context.Context // ends when nothing is to be sent any more; calls with it do not wait for a connection
	endLife  context.CancelFunc

	password  atomic.Pointer[string] // that connections authenticate with; nil: none
	onPublish atomic.Pointer[func(*Topic)]
	epoch     atomic.Pointer[string] // of the last position that was received
	old       atomic.Bool            // the server speaks version 1 of the wire
	stats     clientCounters
	outbox    outbox

	// Guarded by mu.
	mu         sync.Mutex
	subs       map[subscriptionKey]*Subscription // that are not over
	byFilter   map[string]*Subscription          // those without a group that have started
	byNumber   map[uint64]*Subscription          // those that the server knows, or is asked to
	numbers    uint64                            // of subscriptions, used so far
	conn       net.Conn                          // the newest connection; nil: it cannot be compared
	generation uint64                            // of connections
	connected  bool                              // what is to be sent first has been
	closed     bool                              // nothing new begins
	changed    chan struct{}                     // closed when connected or closed is set; nil: nobody waits
	watching   bool                              // a goroutine waits for what becomes of a lost connection
	due        []*Subscription                   // to be opened again
	workers    int                               // goroutines that do
	will       []byte                            // a Publication; nil: none
}

type subscriptionKey struct{ filter, group string }

// NewClient dials a server, as arpc.NewClient does, and returns when the server has
// accepted the credentials that WithPassword or WithToken say. Without them it is for
// Authenticate to send some, where the server asks for any.
func NewClient(dialer arpc.DialerFunc, opts ...Option) (*Client, error) {
	c := &Client{
		subs:     make(map[subscriptionKey]*Subscription),
		byFilter: make(map[string]*Subscription),
		byNumber: make(map[uint64]*Subscription),
	}
	c.outbox.client = c
	for _, opt := range opts {
		if err := opt.forClient(&c.settings); err != nil {
			return nil, err
		}
	}
	if c.settings.passwordSet {
		c.password.Store(&c.settings.password)
		c.Password = c.settings.password
	}
	c.logger = c.settings.logger
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	c.life, c.endLife = context.WithCancel(arpc.ContextWithWaitForReady(context.Background(), false))
	client, err := arpc.NewClient(dialer, c.options()...)
	if err != nil {
		c.endLife()
		return nil, err
	}
	c.Client = client
	return c, nil
}

// options are those of arpc.NewClient.
func (c *Client) options() []arpc.Option {
	h := c.settings.handler
	if h == nil {
		h = arpc.DefaultHandler
	}
	h = h.Clone()
	h.Handle(proto.Message, c.onMessage)
	transient.Mark(h, proto.Message)
	h.Handle(proto.Note, c.onNote)
	h.Handle(proto.Publish, c.onOldMessage)
	h.HandleConnected(c.whenConnected)
	h.HandleDisconnected(c.whenDisconnected)
	h.HandleMessageDropped(c.whenDropped)
	opts := slices.Clone(c.settings.options)
	if c.settings.logger != nil {
		opts = append(opts, arpc.WithLogger(c.settings.logger))
	}
	return append(opts, arpc.WithHandler(h), arpc.WithCredentials(c.credentials))
}

// credentials are asked for by each connection.
func (c *Client) credentials(ctx context.Context) ([]byte, error) {
	if c.settings.token != nil {
		return c.settings.token(ctx)
	}
	if password := c.password.Load(); password != nil {
		return []byte(*password), nil
	}
	return nil, nil
}

// authTimeout is how long a server may take to compare a password.
const authTimeout = 5 * time.Second

// Authenticate sends the Password, and has later connections begin with it. It is for
// a Password that was set after NewClient, as WithPassword was not used. It waits 5 s
// at most; the error has CodeUnauthenticated if the password is another one.
func (c *Client) Authenticate() error {
	ctx, cancel := context.WithTimeout(context.Background(), authTimeout)
	defer cancel()
	return c.AuthenticateWith(ctx, c.Password)
}

// AuthenticateWith is Authenticate with a password, until ctx ends.
func (c *Client) AuthenticateWith(ctx context.Context, password string) error {
	if err := authenticate(ctx, c.Client, password); err != nil {
		return err
	}
	c.password.Store(&password)
	return nil
}

// wrongPassword is the text of servers of version 1, which send no codes.
const wrongPassword = "invalid password"

func authenticate(ctx context.Context, client *arpc.Client, password string) error {
	err := client.CallWith(ctx, proto.Authenticate, password, nil)
	if err != nil && arpc.CodeOf(err) == arpc.CodeUnknown && err.Error() == wrongPassword {
		return arpc.Errorf(arpc.CodeUnauthenticated, "%w", err)
	}
	return err
}

// OnPublish has fn called with all messages, in the place of the callbacks of their
// subscriptions; nil leaves them to these again.
func (c *Client) OnPublish(fn func(*Topic)) {
	if fn == nil {
		c.onPublish.Store(nil)
		return
	}
	c.onPublish.Store(&fn)
}

// Stop closes the client now, as arpc.Client.Stop does. Callbacks do not begin any
// more; called from outside of one it returns when none runs. If there is a will, the
// server is told first that it does not count, for which Stop waits a second at most.
func (c *Client) Stop() {
	ctx, cancel := context.WithTimeout(c.life, time.Second)
	defer cancel()
	c.takeBackWill(ctx)
	c.stop()(context.Background())
}

// stop closes the client. What it returns waits for the callbacks that run.
func (c *Client) stop() (wait func(context.Context) error) {
	wait = c.close(func(s *Subscription) <-chan struct{} { return s.queue.stop(nil) })
	c.Client.Stop() // which ends what callbacks wait for
	c.endLife()
	return wait
}

// Shutdown closes the client when the callbacks have run for all messages that were
// received, and its calls have ended, or when ctx ends, whose error it returns then. The server
// is told first that the subscriptions and the will do not count any more. Messages of
// groups with acknowledgement that no callback has begun with are given back.
func (c *Client) Shutdown(ctx context.Context) error {
	c.outbox.drain(ctx)
	c.takeBackWill(ctx)
	err := c.close(func(s *Subscription) <-chan struct{} {
		if s.settles() {
			return s.queue.stop(nil)
		}
		c.dropRemote(s)
		return s.queue.finish()
	})(ctx)
	if down := c.Client.Shutdown(ctx); err == nil {
		err = down
	}
	c.endLife()
	return err
}

// close has nothing new begin and ends all subscriptions by end. What it returns waits
// for their callbacks, unless it is called from one, and at most until ctx ends; nil
// is no limit.
func (c *Client) close(end func(*Subscription) <-chan struct{}) func(context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.announce()
	var all []*Subscription
	for _, s := range c.subs {
		c.forget(s)
		all = append(all, s)
	}
	c.mu.Unlock()
	resting := make([]<-chan struct{}, len(all))
	for i, s := range all {
		resting[i] = end(s)
		s.over(arpc.ErrClosed)
	}
	return func(ctx context.Context) error {
		if insideCallback() {
			return nil
		}
		return waitFor(ctx, resting)
	}
}

// waitFor waits until all are closed, or ctx ends.
func waitFor(ctx context.Context, all []<-chan struct{}) error {
	for _, one := range all {
		select {
		case <-one:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// announce lets those look again who wait for connected or closed. Guarded by mu.
func (c *Client) announce() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

func errOldServer(what string) error {
	return arpc.Unsent(arpc.Errorf(arpc.CodeFailedPrecondition, "pubsub: %s: the server speaks version 1 of the wire, which does not know that", what))
}

// withTimeout is the context of the methods that take a timeout.
func withTimeout(what string, timeout time.Duration) (context.Context, context.CancelFunc, error) {
	if timeout <= 0 {
		return nil, nil, arpc.Unsent(arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: %s: the timeout must be positive, not %v", what, timeout))
	}
	if timeout == arpc.TimeForever {
		return context.Background(), func() {}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	return ctx, cancel, nil
}
