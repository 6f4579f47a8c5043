package proto

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the vectors anew")

// vector is a body and what it holds, by the record's name.
type vector struct {
	Name      string `json:"name"`
	Note      string `json:"note,omitempty"`
	Record    string `json:"record"`
	Fields    any    `json:"fields,omitempty"`    // nil if malformed
	ReadOnly  bool   `json:"read_only,omitempty"` // sound, but not as it would be written
	Malformed string `json:"malformed,omitempty"` // what is wrong with it
	Hex       string `json:"hex"`
}

// The fields of the records as they stand in the file: what is zero is left out,
// numbers that may need 64 bits are texts, bytes are in hex.
type (
	deliveredFields struct {
		Filter  string `json:"filter,omitempty"`
		Number  uint64 `json:"number,string,omitempty"`
		Offset  uint64 `json:"offset,string,omitempty"`
		Key     string `json:"key,omitempty"`
		Tag     uint64 `json:"tag,string,omitempty"`
		Attempt uint64 `json:"attempt,string,omitempty"`
		Topic   string `json:"topic"`
		TimeNS  int64  `json:"time_ns,string"`
		DataHex string `json:"data_hex"`
	}
	publicationFields struct {
		ToOne   bool   `json:"to_one,omitempty"`
		Topic   string `json:"topic"`
		Key     string `json:"key,omitempty"`
		ID      string `json:"id,omitempty"`
		TimeNS  int64  `json:"time_ns,string"`
		DataHex string `json:"data_hex"`
	}
	batchFields struct {
		Messages []publicationFields `json:"messages"`
	}
	positionFields struct {
		Epoch  string `json:"epoch,omitempty"`
		Offset uint64 `json:"offset,string,omitempty"`
	}
	consumedFields struct {
		Number   uint64 `json:"number,string"`
		Messages uint64 `json:"messages,string"`
		Bytes    uint64 `json:"bytes,string"`
	}
	settledFields struct {
		Number       uint64 `json:"number,string"`
		Acknowledged bool   `json:"acknowledged"`
		Tag          uint64 `json:"tag,string"`
	}
	numberFields struct {
		Number uint64 `json:"number,string"`
	}
	openingFields struct {
		Number         uint64 `json:"number,string"`
		Filter         string `json:"filter"`
		Group          string `json:"group,omitempty"`
		Ack            bool   `json:"ack,omitempty"`
		AckWaitUS      int64  `json:"ack_wait_us,string,omitempty"`
		MaxPending     int    `json:"max_pending,omitempty"`
		WindowMessages int    `json:"window_messages"`
		WindowBytes    int    `json:"window_bytes"`
		Policy         int    `json:"policy,omitempty"`
		QueueMessages  int    `json:"queue_messages,omitempty"`
		QueueBytes     int    `json:"queue_bytes,omitempty"`
		Start          int    `json:"start,omitempty"`
		Epoch          string `json:"epoch,omitempty"`
		Offset         uint64 `json:"offset,string,omitempty"`
		TimeNS         int64  `json:"time_ns,string,omitempty"`
		Events         bool   `json:"events,omitempty"`
		MemberID       string `json:"member_id,omitempty"`
		MemberInfoHex  string `json:"member_info_hex,omitempty"`
	}
	openedFields struct {
		Recovered      bool   `json:"recovered,omitempty"`
		Epoch          string `json:"epoch,omitempty"`
		Offset         uint64 `json:"offset,string,omitempty"`
		WindowMessages int    `json:"window_messages,omitempty"`
		WindowBytes    int    `json:"window_bytes,omitempty"`
	}
	notedFields struct {
		Number    uint64       `json:"number,string,omitempty"`
		Filter    string       `json:"filter,omitempty"`
		Kind      int          `json:"kind"`
		Recovered bool         `json:"recovered,omitempty"`
		Epoch     string       `json:"epoch,omitempty"`
		Offset    uint64       `json:"offset,string,omitempty"`
		Count     uint64       `json:"count,string,omitempty"`
		Code      uint32       `json:"code,omitempty"`
		Text      string       `json:"text,omitempty"`
		Member    memberFields `json:"member,omitzero"`
	}
	memberFields struct {
		ID      string `json:"id,omitempty"`
		InfoHex string `json:"info_hex,omitempty"`
		Client  string `json:"client,omitempty"`
		Filter  string `json:"filter,omitempty"`
	}
	membersFields struct {
		Members []memberFields `json:"members"`
	}
	announcedFields struct {
		Kind     int            `json:"kind"`
		Server   string         `json:"server"`
		Revision uint64         `json:"revision,string,omitempty"`
		To       string         `json:"to,omitempty"`
		Members  []memberFields `json:"members,omitempty"`
	}
	topicFields struct {
		DataHex string `json:"data_hex"`
		Name    string `json:"name"`
		TimeNS  int64  `json:"time_ns,string"`
	}
)

func bytesOf(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func memberOf(m memberFields) Member {
	return Member{ID: m.ID, Info: bytesOf(m.InfoHex), Client: m.Client, Filter: m.Filter}
}

func membersOf(fields []memberFields) (members []Member) {
	for _, m := range fields {
		members = append(members, memberOf(m))
	}
	return members
}

func fieldsOfMember(m Member) memberFields {
	return memberFields{m.ID, hex.EncodeToString(m.Info), m.Client, m.Filter}
}

func fieldsOfMembers(members []Member) (fields []memberFields) {
	for _, m := range members {
		fields = append(fields, fieldsOfMember(m))
	}
	return fields
}

// encode returns the body that fields stand for.
func encode(fields any) []byte {
	switch f := fields.(type) {
	case *deliveredFields:
		return (&Delivered[string]{f.Filter, f.Number, f.Offset, f.Key, f.Tag, f.Attempt, f.Topic, f.TimeNS, bytesOf(f.DataHex)}).Append(nil)
	case *publicationFields:
		return f.publication().Append(nil)
	case *batchFields:
		var body []byte
		for _, m := range f.Messages {
			body = m.publication().AppendToBatch(body)
		}
		return body
	case *positionFields:
		return (&Position[string]{f.Epoch, f.Offset}).Append(nil)
	case *consumedFields:
		return Consumed(*f).Append(nil)
	case *settledFields:
		return Settled(*f).Append(nil)
	case *numberFields:
		return AppendNumber(nil, f.Number)
	case *openingFields:
		return f.opening().Append(nil)
	case *openedFields:
		return (&Opened{f.Recovered, f.Epoch, f.Offset, f.WindowMessages, f.WindowBytes}).Append(nil)
	case *notedFields:
		return (&Noted{f.Number, f.Filter, f.Kind, f.Recovered, f.Epoch, f.Offset, f.Count, f.Code, f.Text, memberOf(f.Member)}).Append(nil)
	case *membersFields:
		return AppendMembers(nil, membersOf(f.Members))
	case *announcedFields:
		return (&Announced{f.Kind, f.Server, f.Revision, f.To, membersOf(f.Members)}).Append(nil)
	case *topicFields:
		return (&Topic[string]{bytesOf(f.DataHex), f.Name, f.TimeNS}).Append(nil)
	}
	panic("no such fields")
}

func (f *publicationFields) publication() *Publication[string] {
	return &Publication[string]{f.ToOne, f.Topic, f.Key, f.ID, f.TimeNS, bytesOf(f.DataHex)}
}

func fieldsOfPublication(p Publication[[]byte]) publicationFields {
	return publicationFields{p.ToOne, string(p.Topic), string(p.Key), string(p.ID), p.Time, hex.EncodeToString(p.Data)}
}

func fieldsOfBatch(body []byte) (f *batchFields, err error) {
	f = new(batchFields)
	for len(body) > 0 && err == nil {
		var p Publication[[]byte]
		p, body, err = NextOfBatch(body)
		f.Messages = append(f.Messages, fieldsOfPublication(p))
	}
	return f, err
}

func (f *openingFields) opening() *Opening {
	return &Opening{
		Number: f.Number, Filter: f.Filter,
		Group: f.Group, Ack: f.Ack, AckWait: time.Duration(f.AckWaitUS) * time.Microsecond, MaxPending: f.MaxPending,
		WindowMessages: f.WindowMessages, WindowBytes: f.WindowBytes,
		Policy: f.Policy, QueueMessages: f.QueueMessages, QueueBytes: f.QueueBytes,
		Start: f.Start, Epoch: f.Epoch, Offset: f.Offset, Time: f.TimeNS,
		Events: f.Events, MemberID: f.MemberID, MemberInfo: bytesOf(f.MemberInfoHex),
	}
}

// decode returns the fields of a body, and an empty value of their type.
func decode(record string, body []byte) (fields, empty any, err error) {
	x := hex.EncodeToString
	switch record {
	case "Delivered":
		d, err := ParseDelivered(body)
		return &deliveredFields{string(d.Filter), d.Number, d.Offset, string(d.Key), d.Tag, d.Attempt, string(d.Topic), d.Time, x(d.Data)}, new(deliveredFields), err
	case "Publication":
		p, err := ParsePublication(body)
		f := fieldsOfPublication(p)
		return &f, new(publicationFields), err
	case "Batch":
		f, err := fieldsOfBatch(body)
		return f, new(batchFields), err
	case "Position":
		p, err := ParsePosition(body)
		return &positionFields{string(p.Epoch), p.Offset}, new(positionFields), err
	case "Consumed":
		r, err := ParseConsumed(body)
		return (*consumedFields)(&r), new(consumedFields), err
	case "Settled":
		r, err := ParseSettled(body)
		return (*settledFields)(&r), new(settledFields), err
	case "Number":
		n, err := ParseNumber(body)
		return &numberFields{n}, new(numberFields), err
	case "Topic":
		t, err := ParseTopic(body)
		return &topicFields{x(t.Data), string(t.Name), t.Time}, new(topicFields), err
	}
	return decodeRecord(record, body)
}

func decodeRecord(record string, body []byte) (fields, empty any, err error) {
	x := hex.EncodeToString
	switch record {
	case "Opening":
		o, err := ParseOpening(body)
		return &openingFields{
			o.Number, o.Filter, o.Group, o.Ack, o.AckWait.Microseconds(), o.MaxPending, o.WindowMessages, o.WindowBytes,
			o.Policy, o.QueueMessages, o.QueueBytes, o.Start, o.Epoch, o.Offset, o.Time, o.Events, o.MemberID, x(o.MemberInfo),
		}, new(openingFields), err
	case "Opened":
		o, err := ParseOpened(body)
		return &openedFields{o.Recovered, o.Epoch, o.Offset, o.WindowMessages, o.WindowBytes}, new(openedFields), err
	case "Noted":
		n, err := ParseNoted(body)
		return &notedFields{n.Number, n.Filter, n.Kind, n.Recovered, n.Epoch, n.Offset, n.Count, n.Code, n.Text, fieldsOfMember(n.Member)}, new(notedFields), err
	case "Members":
		m, err := ParseMembers(body)
		return &membersFields{fieldsOfMembers(m)}, new(membersFields), err
	case "Announced":
		a, err := ParseAnnounced(body)
		return &announcedFields{a.Kind, a.Server, a.Revision, a.To, fieldsOfMembers(a.Members)}, new(announcedFields), err
	}
	panic("no such record: " + record)
}

func vectorsPath() string {
	return filepath.Join("..", "..", "..", "..", "docs", "vectors", "pubsub.json")
}

// The file holds what the list in this package says. With -update it is written.
func TestVectorsAreThoseOfTheFile(t *testing.T) {
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	require.NoError(t, enc.Encode(vectors()))
	if *update {
		require.NoError(t, os.WriteFile(vectorsPath(), want.Bytes(), 0o644))
	}
	got, err := os.ReadFile(vectorsPath())
	require.NoError(t, err)
	require.Equal(t, want.String(), string(got))
}

func TestVectors(t *testing.T) {
	data, err := os.ReadFile(vectorsPath())
	require.NoError(t, err)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var fields json.RawMessage
	var list []struct {
		vector
		Fields json.RawMessage `json:"fields"`
	}
	require.NoError(t, dec.Decode(&list))
	require.NotEmpty(t, list)
	for _, v := range list {
		t.Run(v.Record+"/"+v.Name, func(t *testing.T) {
			got, want, err := decode(v.Record, unhex(t, v.Hex))
			if v.Malformed != "" {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			fields = v.Fields
			dec := json.NewDecoder(bytes.NewReader(fields))
			dec.DisallowUnknownFields()
			require.NoError(t, dec.Decode(want))
			require.Equal(t, want, got)
			if !v.ReadOnly {
				require.Equal(t, v.Hex, hex.EncodeToString(encode(want)))
			}
		})
	}
}
