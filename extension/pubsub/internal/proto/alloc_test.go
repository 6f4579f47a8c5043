//go:build !race

package proto

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllocDelivered(t *testing.T) {
	d := Delivered[string]{Filter: "a.*", Offset: 7, Key: "k", Topic: "a.b", Time: 1, Data: []byte("data")}
	buf := d.Append(nil)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		buf = d.Append(buf[:0])
		if _, err := ParseDelivered(buf); err != nil {
			t.Fatal(err)
		}
	}))
}

func TestAllocPublication(t *testing.T) {
	p := Publication[string]{Topic: "a.b", Key: "k", ID: "id", Time: 1, Data: []byte("data")}
	buf := p.Append(nil)
	at := Position[string]{Epoch: "e", Offset: 9}
	answer := at.Append(nil)
	credit := Consumed{1, 2, 3}.Append(nil)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		buf = p.Append(buf[:0])
		_, err := ParsePublication(buf)
		_, err2 := ParsePosition(answer)
		_, err3 := ParseConsumed(credit)
		if err != nil || err2 != nil || err3 != nil {
			t.Fatal(err, err2, err3)
		}
	}))
}
