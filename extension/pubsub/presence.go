package pubsub

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// presence is who is shown to be subscribed to what, at all servers of the Broker. An
// ID is there from when the first subscription to a filter shows it to when the last
// one has ended, wherever they are.
type presence struct {
	// Set by newPresence, never changed.
	server    *Server
	id        string // of the server, among those of the Broker
	deadAfter time.Duration

	beginning sync.Mutex // held while begin calls the Broker

	// Guarded by mu, under which subscriptions are told, and nothing of the Broker is
	// called.
	mu       sync.Mutex
	begun    bool
	ended    bool
	places   map[string]*place // by filter
	found    subject.Matcher[*place]
	watches  map[string]*presenceWatch // by filter
	watched  subject.Matcher[*presenceWatch]
	here     map[*subscription]struct{}
	nodes    map[string]*presenceNode // the other servers
	revision uint64                   // of those that are here
	outbox   presenceOutbox
	ticking  *time.Timer // nil: nothing is to be done now and then
	unhear   func()
}

// place is who is shown for one filter.
type place struct {
	entry *subject.Entry[*place]
	ids   map[string]*shown
}

// shown is one ID.
type shown struct {
	who   Subscriber // as it was said last
	times int        // by how many subscriptions
}

// presenceWatch is who is told of those who join and leave a filter.
type presenceWatch struct {
	filter        string
	entry         *subject.Entry[*presenceWatch]
	subscriptions map[*subscription]struct{}
}

func newPresence(s *Server, id string) *presence {
	return &presence{
		server:    s,
		id:        id,
		deadAfter: s.settings.deadAfter,
		places:    make(map[string]*place),
		watches:   make(map[string]*presenceWatch),
		here:      make(map[*subscription]struct{}),
		nodes:     make(map[string]*presenceNode),
	}
}

// Presence returns who is subscribed to a topic and has said who it is, by WithMember,
// at all servers of the Broker: each ID once for each filter, by their order. Of other
// servers it is what they have announced.
func (s *Server) Presence(ctx context.Context, topic string) ([]Subscriber, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := subject.CheckTopic(topic); err != nil {
		return nil, invalid(err)
	}
	if err := s.presence.begin(); err != nil {
		return nil, err
	}
	return s.presence.of(topic), nil
}

func (p *presence) of(topic string) (all []Subscriber) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found.Each(topic, func(at *place) {
		for _, sh := range at.ids {
			all = append(all, sh.who)
		}
	})
	slices.SortFunc(all, func(a, b Subscriber) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Filter, b.Filter)) })
	return all
}

// handlePresence answers ps.presence.
func (s *Server) handlePresence(ctx *arpc.Context) {
	members, err := s.presenceFor(ctx)
	if err != nil {
		s.answer(ctx, nil, err)
		return
	}
	s.answer(ctx, proto.AppendMembers(nil, members), nil)
}

func (s *Server) presenceFor(ctx *arpc.Context) ([]proto.Member, error) {
	sess, err := sessionOf(ctx.Client)
	if err != nil {
		return nil, err
	}
	topic := string(ctx.Body())
	if err := subject.CheckTopic(topic); err != nil {
		return nil, malformed(err)
	}
	if err := sess.allowed(OpPresence, topic); err != nil {
		return nil, err
	}
	all, err := s.Presence(ctx, topic)
	if err != nil {
		return nil, err
	}
	if limit := s.settings.maxPresent; len(all) > limit {
		return nil, arpc.Errorf(arpc.CodeResourceExhausted, "pubsub: %d subscribers are present, over the limit of %d (WithMaxPresent)", len(all), limit)
	}
	members := make([]proto.Member, len(all))
	for i := range all {
		members[i] = memberOf(&all[i])
	}
	return members, nil
}

func memberOf(s *Subscriber) proto.Member {
	return proto.Member{ID: s.ID, Info: s.Info, Client: s.Client, Filter: s.Filter}
}

func subscriberOf(m *proto.Member) Subscriber {
	return Subscriber{ID: m.ID, Info: m.Info, Client: m.Client, Filter: m.Filter}
}

// identityText is who a client is, for people: its identity if that is a text or has
// one.
func identityText(c *arpc.Client) string {
	text := ""
	switch identity := c.Identity().(type) {
	case string:
		text = identity
	case fmt.Stringer:
		text = identity.String()
	}
	return text[:min(len(text), proto.MaxClientLen)]
}

// count returns how many subscriptions of this server are shown.
func (p *presence) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.here)
}

// joined is called when a subscription has begun. It is not told of itself.
func (p *presence) joined(s *subscription) {
	if s.shown == nil && !s.events {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || s.hasEnded() {
		return
	}
	if s.shown != nil {
		p.here[s] = struct{}{}
		p.show(*s.shown)
		p.announce(proto.AnnounceJoined, s.shown)
	}
	if s.events {
		p.watch(s)
	}
}

// left is called when a subscription has ended.
func (p *presence) left(s *subscription) {
	if s.shown == nil && !s.events {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return // it is not they who leave
	}
	if s.events {
		p.unwatch(s)
	}
	if _, ok := p.here[s]; ok {
		delete(p.here, s)
		p.hide(s.shown.Filter, s.shown.ID)
		p.announce(proto.AnnounceLeft, s.shown)
	}
}

// show counts a subscription in, of this server or another.
func (p *presence) show(who Subscriber) {
	at := p.places[who.Filter]
	if at == nil {
		at = &place{ids: make(map[string]*shown)}
		entry, err := p.found.Add(who.Filter, at)
		if err != nil {
			return // of another server, whose filters are not ours
		}
		at.entry = entry
		p.places[who.Filter] = at
	}
	sh := at.ids[who.ID]
	if sh == nil {
		sh = &shown{}
		at.ids[who.ID] = sh
		p.tell(proto.NoteJoined, &who)
	}
	sh.who = who
	sh.times++
}

// hide counts a subscription out.
func (p *presence) hide(filter, id string) {
	at := p.places[filter]
	if at == nil || at.ids[id] == nil {
		return
	}
	sh := at.ids[id]
	if sh.times--; sh.times > 0 {
		return
	}
	delete(at.ids, id)
	if len(at.ids) == 0 {
		p.found.Remove(at.entry)
		delete(p.places, filter)
	}
	p.tell(proto.NoteLeft, &sh.who)
}

func (p *presence) watch(s *subscription) {
	w := p.watches[s.filter]
	if w == nil {
		w = &presenceWatch{filter: s.filter, subscriptions: make(map[*subscription]struct{})}
		w.entry, _ = p.watched.Add(s.filter, w) // the filter was checked
		p.watches[s.filter] = w
	}
	w.subscriptions[s] = struct{}{}
}

func (p *presence) unwatch(s *subscription) {
	w := p.watches[s.filter]
	if w == nil {
		return
	}
	delete(w.subscriptions, s)
	if len(w.subscriptions) == 0 {
		p.watched.Remove(w.entry)
		delete(p.watches, s.filter)
	}
}

// tell tells all whose filters have a topic in common with that of who came or went.
func (p *presence) tell(kind int, who *Subscriber) {
	if subject.IsLiteral(who.Filter) {
		p.watched.Each(who.Filter, func(w *presenceWatch) { w.tell(p.server, kind, who) })
		return
	}
	for filter, w := range p.watches {
		if subject.Overlaps(filter, who.Filter) {
			w.tell(p.server, kind, who)
		}
	}
}

// tell makes one note for all that belong to no group.
func (w *presenceWatch) tell(server *Server, kind int, who *Subscriber) {
	var shared entry
	for s := range w.subscriptions {
		n := proto.Noted{Kind: kind, Member: memberOf(who)}
		switch {
		case s.group != "":
			n.Number = s.number
			s.deliverNote(server.noteEntry(&n, false), who)
			continue
		case shared.msg == nil:
			n.Filter = w.filter
			shared = server.noteEntry(&n, false)
		}
		s.deliverNote(shared, who)
	}
}

// deliverNote takes a note that counts as a message.
func (s *subscription) deliverNote(e entry, who *Subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takes() {
		s.send(e, "\x00"+who.Filter+"\x00"+who.ID)
	}
}
