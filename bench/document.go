package main

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/arpc-go/arpc/codec"
)

// DocumentCodec is what participants encode a Document with, if they let choose.
var DocumentCodec = codec.JSON{}

// Document is a small struct, about 130 bytes as JSON, as the bodies of W2.
type Document struct {
	ID       uint64   `json:"id"`
	Revision int      `json:"revision"`
	Name     string   `json:"name"`
	Email    string   `json:"email"`
	Active   bool     `json:"active"`
	Score    float64  `json:"score"`
	Tags     []string `json:"tags"`
}

func newDocument(id uint64) *Document {
	return &Document{
		ID:     id,
		Name:   "Erika Mustermann",
		Email:  "erika@example.com",
		Active: true,
		Score:  98.75,
		Tags:   []string{"customer", "premium"},
	}
}

func (d *Document) equal(o *Document) bool {
	return d.ID == o.ID && d.Revision == o.Revision && d.Name == o.Name && d.Email == o.Email &&
		d.Active == o.Active && d.Score == o.Score && slices.Equal(d.Tags, o.Tags)
}

// jsonLoop is a caller that sends documents and gets them back revised.
type jsonLoop struct {
	*tally
	caller JSONCaller
	req    *Document
	rsp    Document
}

func newJSONLoop(caller JSONCaller, t *tally) *jsonLoop {
	return &jsonLoop{tally: t, caller: caller, req: newDocument(t.id)}
}

func (l *jsonLoop) run(stop *atomic.Bool) error {
	return l.repeat(stop, l.call)
}

func (l *jsonLoop) call(n uint64) error {
	l.req.Revision = int(n)
	l.rsp = Document{}
	start := l.start(n)
	err := l.caller.CallJSON(l.req, &l.rsp)
	l.took(start)
	if err != nil {
		return err
	}
	l.rsp.Revision--
	if !l.rsp.equal(l.req) {
		return fmt.Errorf("%w: sent %+v, got %+v", errWrongAnswer, *l.req, l.rsp)
	}
	return nil
}
