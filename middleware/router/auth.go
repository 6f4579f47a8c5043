package router

import (
	"errors"
	"slices"

	"github.com/arpc-go/arpc"
)

// Auth lets peers through to the routes that they may use. Who a peer is says
// Client.Identity, which a HandleAuth hook or a login handler has stored. Of a
// peer without an identity a refusal has CodeUnauthenticated, of one that is known
// CodePermissionDenied. It is safe for concurrent use.
//
// A route that no rule is about is closed. The refusal does not say what would
// have been enough.
type Auth struct {
	rules patterns[*Who]
	door  door
}

// Who says which peers a rule is for.
type Who struct {
	anyone bool
	roles  []string
	check  func(Incoming) error
}

// Anyone is for routes that need no identity, such as a login.
func Anyone() Who { return Who{anyone: true} }

// Known is every peer with an identity.
func Known() Who { return Who{} }

// HasRole is what an identity has for Role.
type HasRole interface {
	// HasRole reports whether the peer is in a role. It may be called by any
	// number of goroutines.
	HasRole(role string) bool
}

// Role is every peer whose identity is a HasRole and in one of the roles. It
// panics without a role.
func Role(roles ...string) Who {
	if len(roles) == 0 {
		panic("router: Role: there is no role")
	}
	return Who{roles: slices.Clone(roles)}
}

// Checked is every peer with an identity that fn returns nil for. An *arpc.Error
// reaches the peer with its code and text; any other error is a permission denied,
// and its text stays here. fn may be called by any number of goroutines.
func Checked(fn func(Incoming) error) Who {
	if fn == nil {
		panic("router: Checked: there is no function")
	}
	return Who{check: fn}
}

// Rule says who may use some routes.
type Rule struct {
	who     Who
	methods []string
}

// Allow lets a kind of peers use the methods that match one of the patterns, as
// those of Only. Of several rules about a method the one with its own name counts
// alone, or else the one with the longest pattern.
func Allow(who Who, methods ...string) Rule {
	return Rule{who: who, methods: slices.Clone(methods)}
}

// NewAuth returns an Auth with these rules, in any order. It panics if a rule has
// no pattern or one that cannot be meant, or if two have the same.
func NewAuth(rules ...Rule) *Auth {
	a := new(Auth)
	for _, rule := range rules {
		if len(rule.methods) == 0 {
			panic("router: Allow: there is no pattern")
		}
		for _, pattern := range rule.methods {
			a.rules.add("Allow", pattern, &rule.who)
		}
	}
	return a
}

// Handler returns the middleware.
func (a *Auth) Handler() arpc.HandlerFunc { return a.handle }

func (a *Auth) handle(ctx *arpc.Context) {
	who, ok := a.rules.find(methodOf(ctx.Message))
	if ok && who.anyone {
		return
	}
	err := who.refuse(ctx.Client.Identity(), ok)
	if err == nil && who.check != nil {
		err = checked(who.check(incomingMessage(ctx)))
	}
	if err != nil {
		a.door.turnAway(ctx, err)
	}
}

// Stream is the middleware for streams.
func (a *Auth) Stream(next arpc.StreamHandlerFunc) arpc.StreamHandlerFunc {
	return func(s *arpc.Stream) {
		if err := a.checkStream(s); err != nil {
			a.door.failStream(s, err)
			return
		}
		next(s)
	}
}

func (a *Auth) checkStream(s *arpc.Stream) error {
	who, ok := a.rules.find([]byte(s.Method()))
	if ok && who.anyone {
		return nil
	}
	err := who.refuse(s.Client().Identity(), ok)
	if err == nil && who.check != nil {
		err = checked(who.check(incomingStream(s)))
	}
	return err
}

// Refused returns how many requests and streams were refused.
func (a *Auth) Refused() uint64 { return a.door.refused.Load() }

// Dropped returns how many notifications were dropped.
func (a *Auth) Dropped() uint64 { return a.door.dropped.Load() }

var (
	errUnauthenticated  = arpc.NewError(arpc.CodeUnauthenticated, "not authenticated")
	errPermissionDenied = arpc.NewError(arpc.CodePermissionDenied, "permission denied")
)

// refuse says why a peer may not, as far as its identity tells.
func (w *Who) refuse(identity any, ruled bool) error {
	switch {
	case identity == nil:
		return errUnauthenticated
	case !ruled:
		return errPermissionDenied
	case w.roles != nil && !inRole(identity, w.roles):
		return errPermissionDenied
	}
	return nil
}

func inRole(identity any, roles []string) bool {
	r, ok := identity.(HasRole)
	return ok && slices.ContainsFunc(roles, r.HasRole)
}

// checked returns what the peer is to know of the error of a Checked.
func checked(err error) error {
	var coded *arpc.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded) && coded.Code() != arpc.CodeOK:
		return coded
	}
	return errPermissionDenied
}
