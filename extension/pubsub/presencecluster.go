package pubsub

import (
	"context"
	"slices"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// Servers of one Broker tell each other who joins and leaves. Announcements may be
// lost: each has a revision, and who has missed one asks for all members. Those come in
// pieces, the first as AnnounceAll, others as AnnounceJoined of the same revision, and
// count when AnnounceAlive of that revision follows.

const (
	// pieceBytes is about how long an announcement becomes.
	pieceBytes = 64 << 10
	// maxOutbox is how many announcements wait; instead of more all members are
	// announced anew.
	maxOutbox = 1024
	// farewell is how long the last announcement may take.
	farewell = time.Second
)

// presenceNode is another server.
type presenceNode struct {
	heard    time.Time
	known    bool // its members, as of revision
	revision uint64
	members  map[nodeMember]int // how many subscriptions of it
	asked    time.Time          // for all its members
	pieces   *proto.Announced   // of an answer that is not complete yet
}

type nodeMember struct{ filter, id string }

// presenceOutbox is what is to be announced. Guarded by presence.mu.
type presenceOutbox struct {
	list    []proto.Announced
	all     bool // before the list
	sending bool
}

// aliveEvery is how often a server with members says that it is alive.
func (p *presence) aliveEvery() time.Duration { return p.deadAfter / 3 }

// begin hears and asks the others who is there. It is done once.
func (p *presence) begin() error {
	p.beginning.Lock()
	defer p.beginning.Unlock()
	if !p.mayBegin() {
		return nil
	}
	unhear, err := p.server.broker.Hear(p.hear)
	if err != nil {
		return err
	}
	if !p.began(unhear) {
		unhear()
	}
	return nil
}

func (p *presence) mayBegin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.begun && !p.ended && !p.server.owned // a Broker of our own has no other servers
}

// began reports false if the server has ended meanwhile.
func (p *presence) began(unhear func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.begun, p.unhear = true, unhear
	p.post(proto.Announced{Kind: proto.AnnounceWanted})
	if len(p.here) > 0 {
		p.postAll()
	}
	p.tickLater()
	return true
}

// end tells the others that this server is gone.
func (p *presence) end() {
	p.mu.Lock()
	first := !p.ended
	p.ended = true
	p.outbox = presenceOutbox{sending: p.outbox.sending}
	unhear, told := p.unhear, p.begun && (len(p.here) > 0 || p.revision > 0)
	if p.ticking != nil {
		p.ticking.Stop()
	}
	p.mu.Unlock()
	if !first {
		return
	}
	if unhear != nil {
		unhear()
	}
	if told {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		gone := proto.Announced{Kind: proto.AnnounceGone, Server: p.id}
		p.server.broker.Announce(ctx, gone.Append(nil)) // who does not hear it finds out
	}
}

// announce tells the others of one member.
func (p *presence) announce(kind int, who *Subscriber) {
	p.revision++
	p.post(proto.Announced{Kind: kind, Revision: p.revision, Members: []proto.Member{memberOf(who)}})
	p.tickLater()
}

// post puts an announcement into the outbox.
func (p *presence) post(a proto.Announced) {
	if !p.begun || p.ended {
		return
	}
	if len(p.outbox.list) >= maxOutbox {
		p.outbox.list, p.outbox.all = nil, true
	} else {
		p.outbox.list = append(p.outbox.list, a)
	}
	p.sendOutbox()
}

// postAll has all members announced, in the place of what waits of single ones.
func (p *presence) postAll() {
	p.outbox.all = true
	p.sendOutbox()
}

func (p *presence) sendOutbox() {
	if !p.outbox.sending {
		p.outbox.sending = p.server.start(p.send)
	}
}

// send sends what is in the outbox.
func (p *presence) send() {
	for list := p.takeOutbox(); list != nil; list = p.takeOutbox() {
		for i := range list {
			list[i].Server = p.id
			p.server.broker.Announce(p.server.ctx, list[i].Append(nil)) // who misses it asks
		}
	}
}

// takeOutbox returns what is to be announced next, nil to end the goroutine.
func (p *presence) takeOutbox() []proto.Announced {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.outbox.list
	p.outbox.list = nil
	if p.outbox.all {
		p.outbox.all = false
		overtaken := func(a proto.Announced) bool { return a.Kind != proto.AnnounceWanted }
		return append(p.pieces(), slices.DeleteFunc(list, overtaken)...)
	}
	if list == nil {
		p.outbox.sending = false
	}
	return list
}

// pieces are announcements of all members.
func (p *presence) pieces() []proto.Announced {
	list := []proto.Announced{{Kind: proto.AnnounceAll, Revision: p.revision}}
	size := 0
	for s := range p.here {
		if size > pieceBytes {
			list = append(list, proto.Announced{Kind: proto.AnnounceJoined, Revision: p.revision})
			size = 0
		}
		last := &list[len(list)-1]
		last.Members = append(last.Members, memberOf(s.shown))
		size += len(s.shown.ID) + len(s.shown.Info) + len(s.shown.Client) + len(s.shown.Filter)
	}
	return append(list, proto.Announced{Kind: proto.AnnounceAlive, Revision: p.revision})
}

// hear is called by the Broker.
func (p *presence) hear(data []byte) {
	a, err := proto.ParseAnnounced(data)
	if err != nil {
		p.server.logger.Warn("pubsub: another server announced something that makes no sense", "cause", err)
		return
	}
	if a.Server == p.id {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
	case a.Kind == proto.AnnounceGone:
		p.forget(a.Server)
	case a.Kind == proto.AnnounceWanted:
		if a.To == p.id || a.To == "" && len(p.here) > 0 {
			p.postAll()
		}
	default:
		p.heard(&a)
	}
}

// heard takes what a server has said of its members.
func (p *presence) heard(a *proto.Announced) {
	n := p.nodes[a.Server]
	if n == nil {
		n = &presenceNode{members: make(map[nodeMember]int)}
		p.nodes[a.Server] = n
	}
	n.heard = time.Now()
	p.tickLater()
	changes := uint64(len(a.Members))
	switch {
	case a.Kind == proto.AnnounceAll:
		n.pieces = a
	case n.pieces != nil && a.Kind == proto.AnnounceJoined && a.Revision == n.pieces.Revision:
		n.pieces.Members = append(n.pieces.Members, a.Members...)
	case n.pieces != nil && a.Kind == proto.AnnounceAlive && a.Revision == n.pieces.Revision:
		p.replace(n)
	case a.Kind == proto.AnnounceAlive && n.known && a.Revision == n.revision:
	case a.Kind == proto.AnnounceJoined && (n.known || a.Revision == changes) && a.Revision == n.revision+changes:
		n.known, n.revision = true, a.Revision
		p.joinedThere(n, a.Members)
	case a.Kind == proto.AnnounceLeft && n.known && a.Revision == n.revision+changes:
		n.revision = a.Revision
		p.leftThere(n, a.Members)
	default:
		p.ask(a.Server, n)
	}
}

// ask asks a server for all its members, because something of it was missed.
func (p *presence) ask(server string, n *presenceNode) {
	n.known, n.pieces = false, nil
	if time.Since(n.asked) < p.aliveEvery() {
		return
	}
	n.asked = time.Now()
	p.post(proto.Announced{Kind: proto.AnnounceWanted, To: server})
}

func (p *presence) joinedThere(n *presenceNode, members []proto.Member) {
	for i := range members {
		who := subscriberOf(&members[i])
		n.members[nodeMember{who.Filter, who.ID}]++
		p.show(who)
	}
}

func (p *presence) leftThere(n *presenceNode, members []proto.Member) {
	for i := range members {
		key := nodeMember{members[i].Filter, members[i].ID}
		if n.members[key] == 0 {
			continue
		}
		if n.members[key]--; n.members[key] == 0 {
			delete(n.members, key)
		}
		p.hide(key.filter, key.id)
	}
}

// replace has the pieces of an answer take the place of what was known of a server. Who
// is in both stays.
func (p *presence) replace(n *presenceNode) {
	before := n.members
	n.known, n.revision, n.members = true, n.pieces.Revision, make(map[nodeMember]int)
	p.joinedThere(n, n.pieces.Members)
	n.pieces = nil
	p.hideAll(before)
}

func (p *presence) hideAll(members map[nodeMember]int) {
	for key, times := range members {
		for range times {
			p.hide(key.filter, key.id)
		}
	}
}

// forget takes a server out, and those who are present with it.
func (p *presence) forget(server string) {
	if n := p.nodes[server]; n != nil {
		delete(p.nodes, server)
		p.hideAll(n.members)
	}
}

// tickLater has tick called if there is something to be done now and then.
func (p *presence) tickLater() {
	if p.begun && !p.ended && p.ticking == nil && (len(p.here) > 0 || len(p.nodes) > 0) {
		p.ticking = time.AfterFunc(p.aliveEvery(), p.tick)
	}
}

// tick says that this server is alive, and finds those that are not.
func (p *presence) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ticking = nil
	if len(p.here) > 0 {
		p.post(proto.Announced{Kind: proto.AnnounceAlive, Revision: p.revision})
	}
	for server, n := range p.nodes {
		if time.Since(n.heard) >= p.deadAfter {
			p.forget(server)
		}
	}
	p.tickLater()
}
