package proto

import "fmt"

// Member is who is subscribed.
type Member struct {
	ID     string
	Info   []byte
	Client string // who the client is, for people
	Filter string // what it is subscribed to
}

func (m *Member) isZero() bool {
	return m.ID == "" && len(m.Info) == 0 && m.Client == "" && m.Filter == ""
}

func (m *Member) append(dst []byte) []byte {
	dst = fieldBytes(dst, 1, m.ID)
	dst = fieldBytes(dst, 2, m.Info)
	dst = fieldBytes(dst, 3, m.Client)
	return fieldBytes(dst, 4, m.Filter)
}

func parseMember(body []byte) (m Member, err error) {
	err = eachField(body, m.set)
	return m, err
}

func (m *Member) set(tag uint64, value []byte) error {
	switch tag {
	case 1:
		return setString(&m.ID, value, MaxIDLen)
	case 2:
		return setInfo(&m.Info, value)
	case 3:
		return setString(&m.Client, value, MaxClientLen)
	case 4:
		return setString(&m.Filter, value, MaxTopicLen)
	}
	return nil
}

// AppendMembers appends the answer to a Presence: a field 1 for each member.
func AppendMembers(dst []byte, members []Member) []byte {
	for i := range members {
		dst = appendMember(dst, 1, &members[i])
	}
	return dst
}

// appendMember appends a field, also for a member that is zero.
func appendMember(dst []byte, tag byte, m *Member) []byte {
	return appendNamed(append(dst, tag), m.append(nil))
}

// ParseMembers reads what AppendMembers wrote. The result shares no bytes with body.
func ParseMembers(body []byte) (members []Member, err error) {
	err = parseFields(Presence+" answer", body, func(tag uint64, value []byte) error {
		if tag != 1 {
			return nil
		}
		m, err := parseMember(value)
		members = append(members, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	return members, nil
}

// Kinds of announcements between servers.
const (
	AnnounceJoined = 1 // Members
	AnnounceLeft   = 2 // Members
	AnnounceAlive  = 3 // now and then
	AnnounceWanted = 4 // the server To is to announce all of its members
	AnnounceAll    = 5 // Members: all that there are
	AnnounceGone   = 6 // the server is leaving, and its members with it
)

// Announced is what a server tells the others that share its Broker, of those
// who are present with it.
type Announced struct {
	Kind   int
	Server string // who says so; a server that starts anew is another one
	// Revision counts the joins and leaves of the server, this one included. Who has
	// missed one asks for all of them.
	Revision uint64
	To       string
	Members  []Member
}

// Append appends the record to dst.
func (a *Announced) Append(dst []byte) []byte {
	dst = fieldNumber(dst, 1, uint64(a.Kind))
	dst = fieldBytes(dst, 2, a.Server)
	dst = fieldNumber(dst, 3, a.Revision)
	dst = fieldBytes(dst, 4, a.To)
	for i := range a.Members {
		dst = appendMember(dst, 5, &a.Members[i])
	}
	return dst
}

// ParseAnnounced reads a record. The result shares no bytes with body.
func ParseAnnounced(body []byte) (Announced, error) {
	var a Announced
	err := parseFields("announcement", body, a.set)
	if err == nil && a.Server == "" {
		err = fmt.Errorf("%w: announcement: the server is missing", ErrMalformed)
	}
	if err != nil {
		return Announced{}, err
	}
	return a, nil
}

func (a *Announced) set(tag uint64, value []byte) error {
	switch tag {
	case 1:
		return setInt(&a.Kind, value)
	case 2:
		return setString(&a.Server, value, MaxIDLen)
	case 3:
		return setNumber(&a.Revision, value)
	case 4:
		return setString(&a.To, value, MaxIDLen)
	case 5:
		m, err := parseMember(value)
		a.Members = append(a.Members, m)
		return err
	}
	return nil
}
