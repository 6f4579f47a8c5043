package memconn_test

import (
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/memconn"
)

// FuzzConn runs a program of acts, each two bytes, against a model: the bytes
// come out as they went in, and no call waits that should not.
func FuzzConn(f *testing.F) {
	f.Add([]byte{0, 9, 1, 3, 1, 20})
	f.Add([]byte{2, 3, 0, 30, 1, 30, 1, 30, 3, 4, 0, 12, 1, 12})
	f.Add([]byte{0, 5, 4, 0, 0, 5, 1, 99, 5, 0, 1, 99})
	f.Add([]byte{6, 12, 0, 8, 0, 8, 1, 99, 1, 99, 0, 1})
	f.Add([]byte{7, 3, 0, 8, 1, 8, 4, 0, 8, 0, 5, 0, 1, 1})
	f.Fuzz(func(t *testing.T, program []byte) {
		a, b := memconn.Pipe(memconn.WithBuffer(64))
		m := model{a: a, b: b, room: 64, maxRead: 1 << 20, budget: -1}
		for ; len(program) >= 2; program = program[2:] {
			m.act(t, program[0], int(program[1]))
		}
	})
}

type model struct {
	a, b     *memconn.Conn
	held     []byte // stalled
	arrived  []byte // not yet read
	room     int
	maxRead  int
	budget   int // bytes to the cut; -1 for none
	offset   int
	corrupt  map[int]bool
	stalled  bool
	end      error // behind the last byte
	endThere bool  // and it has arrived
}

func (m *model) act(t *testing.T, op byte, n int) {
	switch op % 9 {
	case 0:
		m.write(t, n)
	case 1:
		m.read(t, n)
	case 2:
		m.b.Split(n) // of the other direction: changes nothing
		m.a.Split(n)
		if m.maxRead = n; n == 0 {
			m.maxRead = 1 << 20
		}
	case 3:
		m.a.ShortWrites(n)
	case 4:
		m.a.Stall()
		m.stalled = true
	case 5:
		m.a.Resume()
		m.stalled = false
		m.deliver()
	case 6:
		m.a.CutAfter(int64(n))
		m.budget = n
		m.checkCut()
	case 7:
		m.a.Corrupt(int64(n))
		m.flip(n)
	case 8:
		m.a.CloseWrite()
		m.finish(io.EOF)
	}
}

// flip notes an offset to corrupt: named twice, it flips back.
func (m *model) flip(off int) {
	if m.corrupt == nil {
		m.corrupt = map[int]bool{}
	}
	m.corrupt[off] = !m.corrupt[off]
}

func (m *model) write(t *testing.T, n int) {
	if m.end == nil && min(n, m.left()) > m.room {
		return // would wait
	}
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(7 * (m.offset + i))
	}
	got, err := m.a.Write(p)
	switch {
	case m.end == io.EOF:
		require.ErrorIs(t, err, syscall.EPIPE)
		require.Zero(t, got)
		return
	case m.end != nil:
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Zero(t, got)
		return
	case n > m.left():
		require.ErrorIs(t, err, syscall.ECONNRESET)
	default:
		require.NoError(t, err)
	}
	n = min(n, m.left())
	require.Equal(t, n, got)
	for i := range n {
		if m.corrupt[m.offset+i] {
			p[i] ^= 1
		}
		delete(m.corrupt, m.offset+i)
	}
	m.held = append(m.held, p[:n]...)
	m.room -= n
	m.offset += n
	if m.budget > 0 {
		m.budget -= n
	}
	m.checkCut()
	m.deliver()
}

// left returns how many bytes may be written before the cut.
func (m *model) left() int {
	if m.budget < 0 {
		return 1 << 20
	}
	return m.budget
}

func (m *model) checkCut() {
	if m.budget == 0 {
		m.finish(syscall.ECONNRESET)
	}
}

func (m *model) finish(end error) {
	if m.end == nil {
		m.end = end
	}
	m.deliver()
}

func (m *model) deliver() {
	if m.stalled {
		return
	}
	m.arrived = append(m.arrived, m.held...)
	m.held = nil
	m.endThere = m.end != nil
}

func (m *model) read(t *testing.T, n int) {
	if n == 0 || len(m.arrived) == 0 && !m.endThere {
		return // says nothing, or would wait
	}
	p := make([]byte, n)
	got, err := m.b.Read(p)
	if len(m.arrived) == 0 {
		require.ErrorIs(t, err, m.end)
		require.Zero(t, got)
		return
	}
	require.NoError(t, err)
	want := min(n, m.maxRead, len(m.arrived))
	require.Equal(t, m.arrived[:want], p[:got])
	m.arrived = m.arrived[want:]
	m.room += want
}
