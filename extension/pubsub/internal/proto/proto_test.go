package proto

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(tb, err)
	return b
}

func TestLimitsAreNamed(t *testing.T) {
	long := strings.Repeat("x", 5000)
	open := func(o Opening) []byte {
		o.Number, o.Filter = max(o.Number, 1), "t"+o.Filter
		return o.Append(nil)
	}
	cases := map[string]struct {
		parse func([]byte) error
		body  []byte
		says  string
	}{
		"filter of a message": {parseDelivered, append([]byte{1, 0x81, 8}, long...), "malformed pub/sub message: ps.msg: filter: 1025 bytes are longer than the limit of 1024"},
		"topic of a message":  {parseDelivered, append([]byte{0, 0x81, 8}, long...), "topic: 1025 bytes"},
		"no topic":            {parseDelivered, []byte{0, 0, 0}, "topic: the topic is empty"},
		"key of a message":    {parsePublication, (&Publication[string]{Topic: "t", Key: long[:257]}).Append(nil), "key: 257 bytes are longer than the limit of 256"},
		"ID of a message":     {parsePublication, (&Publication[string]{Topic: "t", ID: long[:257]}).Append(nil), "id: 257 bytes"},
		"unknown flags":       {parsePublication, []byte{8, 1, 't', 0}, "flags that mean nothing are set"},
		"epoch":               {parsePosition, (&Position[string]{Epoch: long[:65]}).Append(nil), "epoch: 65 bytes"},
		"filter":              {parseOpening, open(Opening{Filter: long[:1024]}), "ps.open: field 2: 1025 bytes"},
		"group":               {parseOpening, open(Opening{Group: long[:257]}), "ps.open: field 3: 257 bytes"},
		"member info":         {parseOpening, open(Opening{MemberInfo: []byte(long[:4097])}), "ps.open: field 18: 4097 bytes"},
		"no number":           {parseOpening, (&Opening{Filter: "t"}).Append(nil), "ps.open: the number is missing"},
		"no filter":           {parseOpening, (&Opening{Number: 1}).Append(nil), "ps.open: the filter is missing"},
		"window":              {parseOpening, fieldNumber(open(Opening{}), 7, math.MaxUint64), "field 7: the number is too large"},
		"wait":                {parseOpening, fieldNumber(open(Opening{}), 5, math.MaxUint64), "field 5: the number is too large"},
		"no number in it":     {parseOpening, []byte{1, 0}, "field 1: the value is not one number"},
		"field runs out":      {parseOpening, []byte{1, 2, 0}, "field: a length runs beyond the end"},
		"tag runs out":        {parseOpening, []byte{0x80}, "tag: a number is cut short"},
		"text":                {parseNoted, fieldBytes(nil, 9, long[:1025]), "field 9: 1025 bytes"},
		"outcome":             {parseSettled, []byte{1, 2, 3}, "outcome: the number is too large"},
		"more behind":         {parseConsumed, []byte{1, 2, 3, 4}, "something follows where nothing should"},
		"server":              {parseAnnounced, nil, "announcement: the server is missing"},
		"member of many":      {parseMembers, []byte{1, 2, 1, 5}, "ps.presence answer: field 1: field: a length runs beyond the end"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := c.parse(c.body)
			require.ErrorIs(t, err, ErrMalformed)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func parseDelivered(b []byte) error   { _, err := ParseDelivered(b); return err }
func parsePublication(b []byte) error { _, err := ParsePublication(b); return err }
func parsePosition(b []byte) error    { _, err := ParsePosition(b); return err }
func parseConsumed(b []byte) error    { _, err := ParseConsumed(b); return err }
func parseSettled(b []byte) error     { _, err := ParseSettled(b); return err }
func parseOpening(b []byte) error     { _, err := ParseOpening(b); return err }
func parseNoted(b []byte) error       { _, err := ParseNoted(b); return err }
func parseMembers(b []byte) error     { _, err := ParseMembers(b); return err }
func parseAnnounced(b []byte) error   { _, err := ParseAnnounced(b); return err }

func TestOldTopicsHaveTheErrorsOfOldPeers(t *testing.T) {
	name := func(n int) []byte { return (&Topic[string]{Name: strings.Repeat("n", n)}).Append(nil) }
	cases := map[string]struct {
		body []byte
		err  error
	}{
		"nothing":             {nil, ErrTopicShort},
		"nine bytes":          {make([]byte, 9), ErrTopicShort},
		"no name":             {make([]byte, 10), ErrTopicName},
		"name too long":       {name(1025), ErrTopicName},
		"name is not there":   {name(5)[1:], ErrTopicShort},
		"longest name":        {name(1024), nil},
		"a name of one byte":  {name(1), nil},
		"data before a topic": {append([]byte("data"), name(3)...), nil},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			_, err := ParseTopic(c.body)
			require.Equal(t, c.err, err)
		})
	}
	require.Equal(t, ErrTopicEmpty, CheckTopicName(""))
	require.Equal(t, ErrTopicName, CheckTopicName(strings.Repeat("n", 1025)))
	require.NoError(t, CheckTopicName([]byte("n")))
}

// What was parsed is a view: appending to a part of it changes nothing else.
func TestViewsDoNotReachIntoEachOther(t *testing.T) {
	body := (&Delivered[string]{Filter: "a.*", Key: "k", Topic: "a.b", Data: []byte("data")}).Append(nil)
	whole := string(body)
	d, err := ParseDelivered(body)
	require.NoError(t, err)
	for _, view := range [][]byte{d.Filter, d.Key, d.Topic} {
		_ = append(view, "overwritten"...)
	}
	require.Equal(t, whole, string(body))

	body = append((&Topic[string]{Name: "name", Data: []byte("data")}).Append(nil), "behind"...)
	whole = string(body)
	old, err := ParseTopic(body[:len(body)-len("behind")])
	require.NoError(t, err)
	_ = append(old.Data, "overwritten"...)
	_ = append(old.Name, "overwritten"...)
	require.Equal(t, whole, string(body))
}

func TestTextsOfNotesAreCut(t *testing.T) {
	n := Noted{Number: 1, Kind: NoteEnded, Text: strings.Repeat("long ", 500)}
	got, err := ParseNoted(n.Append(nil))
	require.NoError(t, err)
	require.Equal(t, n.Text[:MaxTextLen], got.Text)
}

func TestNumbersTakeTheFewestBytes(t *testing.T) {
	for shift := range 64 {
		v := uint64(1) << shift
		for _, v := range []uint64{v - 1, v} {
			field := fieldNumberAlways(nil, 1, v)
			require.Len(t, field, 2+uvarintLen(v), fmt.Sprint(v))
			var got uint64
			require.NoError(t, setNumber(&got, field[2:]))
			require.Equal(t, v, got)
		}
	}
}
