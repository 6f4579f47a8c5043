package pubsub

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

var (
	// errPassword's text is known to old clients.
	errPassword         = arpc.NewError(arpc.CodeUnauthenticated, "invalid password")
	errNotAuthenticated = arpc.NewError(arpc.CodeUnauthenticated, "pubsub: authenticate first")
)

// letInKey is where a client has that it is let in.
type letInKey struct{}

// demands reports whether clients have to authenticate.
func (s *Server) demands() bool { return s.settings.authenticate != nil || s.Password != "" }

// letIn reports whether the client has authenticated, or need not.
func (s *Server) letIn(c *arpc.Client) bool {
	if !s.demands() {
		return true
	}
	_, ok := c.Get(letInKey{})
	return ok
}

// gate is the first middleware: nothing is handled of a client that is not let in, but
// what lets it in.
func (s *Server) gate(ctx *arpc.Context) {
	if s.letIn(ctx.Client) || ctx.Message.Method() == proto.Authenticate {
		ctx.Next()
		return
	}
	ctx.Error(errNotAuthenticated)
	ctx.Abort()
}

// gateStream is gate for streams.
func (s *Server) gateStream(next arpc.StreamHandlerFunc) arpc.StreamHandlerFunc {
	return func(stream *arpc.Stream) {
		if !s.letIn(stream.Client()) {
			stream.Fail(errNotAuthenticated)
			return
		}
		next(stream)
	}
}

// greet looks at the credentials of a hello. Who has none may authenticate later.
func (s *Server) greet(ctx context.Context, c *arpc.Client, credentials []byte) error {
	switch {
	case !s.demands():
		return nil
	case len(credentials) > 0:
		return s.authenticate(ctx, c, credentials)
	case s.settings.authenticate != nil:
		s.authenticate(ctx, c, nil) // a refusal is not the last word
	}
	return nil
}

// authenticate lets the client in, or says why not.
func (s *Server) authenticate(ctx context.Context, c *arpc.Client, credentials []byte) error {
	fn := s.settings.authenticate
	if fn == nil {
		if !equal(string(credentials), s.Password) {
			return errPassword
		}
		c.Set(letInKey{}, true)
		return nil
	}
	identity, err := fn(ctx, c, credentials)
	if err != nil {
		if arpc.CodeOf(err) == arpc.CodeUnknown {
			err = arpc.Errorf(arpc.CodeUnauthenticated, "%w", err)
		}
		return err
	}
	if identity != nil {
		c.SetIdentity(identity)
	}
	c.Set(letInKey{}, true)
	return nil
}

// equal compares in a time that tells nothing of the password, nor of its length.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// maxAuthFailures is how often a connection may try in vain.
const maxAuthFailures = 10

// handleAuthenticate answers in_A.
func (s *Server) handleAuthenticate(ctx *arpc.Context) {
	sess, err := sessionOf(ctx.Client)
	if err == nil && s.demands() {
		err = sess.authenticate(ctx)
	}
	s.answer(ctx, nil, err)
}

func (s *session) authenticate(ctx *arpc.Context) error {
	var credentials []byte
	err := ctx.Bind(&credentials)
	if err == nil {
		err = s.server.authenticate(ctx, s.client, credentials)
	}
	if err == nil {
		s.stopAuthTimer()
	} else if s.authFailures.Add(1) == maxAuthFailures {
		s.server.start(s.client.Stop)
	}
	return err
}

// limitAuth cuts a connection that does not authenticate in time.
func (s *session) limitAuth() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authTimer = time.AfterFunc(s.server.settings.authTimeout, func() {
		if !s.server.letIn(s.client) {
			s.client.Stop()
		}
	})
}

func (s *session) stopAuthTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.authTimer != nil {
		s.authTimer.Stop()
		s.authTimer = nil
	}
}
