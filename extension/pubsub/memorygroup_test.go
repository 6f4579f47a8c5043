package pubsub_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// memoryTaker is a Member that keeps what it takes. In these tests messages are taken
// before Publish returns, or when the fake clock is at their time.
type memoryTaker struct {
	leave func()

	mu    sync.Mutex
	taken []pubsub.Delivery
	told  int // of taken, by took
}

func (m *memoryTaker) Take(d pubsub.Delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken = append(m.taken, d)
}

// all returns what was taken.
func (m *memoryTaker) all() []pubsub.Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken
}

// took returns what was taken since it was called last, with attempts.
func (m *memoryTaker) took() string {
	all := m.all()
	var texts []string
	for ; m.told < len(all); m.told++ {
		texts = append(texts, fmt.Sprintf("%s:%d", all[m.told].Data, all[m.told].Attempt))
	}
	return strings.Join(texts, " ")
}

func memoryJoin(t testing.TB, b pubsub.Broker, filter string, o pubsub.GroupOptions) *memoryTaker {
	t.Helper()
	m := new(memoryTaker)
	leave, err := b.Join(filter, "group", o, m)
	require.NoError(t, err)
	m.leave = leave
	return m
}

func TestMemoryGroupMembersTakeTurns(t *testing.T) {
	b := newMemoryBroker(t)
	one, two, three := memoryJoin(t, b, "t", pubsub.GroupOptions{}), memoryJoin(t, b, "t", pubsub.GroupOptions{}), memoryJoin(t, b, "t", pubsub.GroupOptions{})
	for i := range 6 {
		memoryPublish(t, b, "t", fmt.Sprint(i))
	}
	require.Equal(t, "0:1 3:1", one.took())
	require.Equal(t, "1:1 4:1", two.took())
	require.Equal(t, "2:1 5:1", three.took())
}

func TestMemoryGroupWithoutAcknowledgementWaitsAndDrops(t *testing.T) {
	b := newMemoryBroker(t)
	o := pubsub.GroupOptions{MaxPending: 1, MaxWaiting: 2}
	one, two := memoryJoin(t, b, "t", o), memoryJoin(t, b, "t", o)
	for i := range 6 {
		memoryPublish(t, b, "t", fmt.Sprint(i))
	}
	require.EqualValues(t, 2, b.Statistics().GroupDropped, "two are taken, two wait")
	first := one.all()[0]
	require.Equal(t, "0:1", one.took())
	require.Equal(t, "1:1", two.took())
	first.Done(false)
	first.Done(true)
	require.Equal(t, "2:1", one.took(), "Done makes room, once")
	memoryPublish(t, b, "t", "7")
	require.EqualValues(t, 2, b.Statistics().GroupDropped)
	one.leave()
	two.leave()
	require.EqualValues(t, 4, b.Statistics().GroupDropped, "nobody is left for what waits")
	memoryPublish(t, b, "t", "8")
	require.EqualValues(t, 4, b.Statistics().GroupDropped, "there is no group")
}

func TestMemoryGroupWithoutAcknowledgementBoundsBytes(t *testing.T) {
	b := newMemoryBroker(t)
	member := memoryJoin(t, b, "t", pubsub.GroupOptions{MaxPending: 1})
	large := strings.Repeat("x", 7<<20)
	for range 3 {
		memoryPublish(t, b, "t", large)
	}
	require.Len(t, member.all(), 1)
	require.EqualValues(t, 1, b.Statistics().GroupDropped)
}

// ackTest has fn run on a fake clock with a Broker that keeps topics "kept.*".
func ackTest(t *testing.T, fn func(t *testing.T, b *pubsub.MemoryBroker)) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBroker(t, pubsub.WithHistory("kept.*", pubsub.History{Messages: 5}))
		fn(t, b)
	})
}

func TestMemoryGroupDeliversAgainWhenAckWaitIsOver(t *testing.T) {
	ackTest(t, func(t *testing.T, b *pubsub.MemoryBroker) {
		o := pubsub.GroupOptions{Ack: true, AckWait: 10 * time.Second}
		one := memoryJoin(t, b, "kept.a", o)
		memoryPublish(t, b, "kept.a", "a")
		time.Sleep(time.Second)
		memoryPublish(t, b, "kept.a", "b")
		require.Equal(t, "a:1 b:1", one.took())
		two := memoryJoin(t, b, "kept.a", o)
		time.Sleep(9*time.Second - 1)
		synctest.Wait()
		require.Equal(t, "", two.took())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, "a:2", two.took(), "another gets it")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, "b:2", two.took())
		require.Equal(t, "", one.took())
		two.leave()
		require.Equal(t, "a:3 b:3", one.took())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, "a:4 b:4", one.took(), "the same gets it, if there is no other")
		require.EqualValues(t, 6, b.Statistics().GroupRedelivered)
	})
}

func TestMemoryGroupTakesLateAcknowledgements(t *testing.T) {
	ackTest(t, func(t *testing.T, b *pubsub.MemoryBroker) {
		o := pubsub.GroupOptions{Ack: true, AckWait: time.Second, MaxPending: 2}
		one := memoryJoin(t, b, "kept.a", o)
		memoryPublish(t, b, "kept.a", "a")
		memoryPublish(t, b, "kept.a", "b")
		first := one.all()
		require.Equal(t, "a:1 b:1", one.took())
		two := memoryJoin(t, b, "kept.a", o)
		time.Sleep(time.Second)
		synctest.Wait()
		second := two.all()
		require.Equal(t, "a:2 b:2", two.took())
		first[0].Done(true)  // though another has it
		first[1].Done(false) // it was taken back before
		time.Sleep(time.Second / 2)
		synctest.Wait()
		require.Equal(t, "", one.took()+two.took(), "another has it")
		second[1].Done(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, "", one.took()+two.took())
		second[0].Done(false)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, "", one.took()+two.took(), "what is acknowledged stays so")

		memoryPublish(t, b, "kept.a", "c")
		memoryPublish(t, b, "kept.a", "d")
		memoryPublish(t, b, "kept.a", "e")
		memoryPublish(t, b, "kept.a", "f")
		require.Len(t, one.all(), 4, "there is room for as many as before")
		require.Len(t, two.all(), 4)
	})
}

func TestMemoryGroupGivesBackToOthersAtOnceAndThenWithPauses(t *testing.T) {
	ackTest(t, func(t *testing.T, b *pubsub.MemoryBroker) {
		o := pubsub.GroupOptions{Ack: true, AckWait: time.Hour, MaxPending: 1}
		one := memoryJoin(t, b, "kept.a", o)
		memoryPublish(t, b, "kept.a", "a")
		two := memoryJoin(t, b, "kept.a", o)
		one.all()[0].Done(false)
		require.Equal(t, "a:1", one.took())
		two.all()[0].Done(false)
		require.Equal(t, "a:2", two.took())
		require.Equal(t, "", one.took(), "everybody has given it back")
		memoryPublish(t, b, "kept.a", "b")
		memoryPublish(t, b, "kept.a", "c")
		require.Equal(t, "b:1", one.took(), "what rests keeps its place, and is one of two that may be open")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, "a:3", two.took())
	})
}

func TestMemoryGroupIsForgottenWhenItIsWithoutMembersForLong(t *testing.T) {
	ackTest(t, func(t *testing.T, b *pubsub.MemoryBroker) {
		o := pubsub.GroupOptions{Ack: true}
		one := memoryJoin(t, b, "kept.*", o)
		one.leave()
		memoryPublish(t, b, "kept.a", "a")
		time.Sleep(time.Hour - 1)
		one = memoryJoin(t, b, "kept.*", o)
		require.Equal(t, "a:1", one.took())
		one.leave()
		time.Sleep(time.Hour - 1)
		one = memoryJoin(t, b, "kept.*", o)
		require.Equal(t, "a:2", one.took())
		time.Sleep(time.Second)
		one.leave()
		memoryPublish(t, b, "kept.a", "b")
		time.Sleep(time.Hour)
		synctest.Wait()
		one = memoryJoin(t, b, "kept.*", o)
		require.Equal(t, "", one.took())
		memoryPublish(t, b, "kept.b", "c")
		require.Equal(t, "c:1", one.took())
	})
}

func TestMemoryGroupCountsWhatHistoryLosesBeforeItIsRead(t *testing.T) {
	ackTest(t, func(t *testing.T, b *pubsub.MemoryBroker) {
		o := pubsub.GroupOptions{Ack: true, MaxPending: 2, AckWait: time.Hour}
		one := memoryJoin(t, b, "kept.*", o)
		for i := range 10 {
			memoryPublish(t, b, "kept.a", fmt.Sprint(i))
		}
		memoryPublish(t, b, "kept.b", "b")
		require.EqualValues(t, 3, b.Statistics().GroupLost, "two are with the member, five are kept, three are lost")
		var got []string
		for i := 0; i < len(one.all()); i++ {
			got = append(got, string(one.all()[i].Data))
			one.all()[i].Done(true)
		}
		require.Equal(t, []string{"0", "1", "5", "6", "7", "8", "9", "b"}, got)
		for i := range 10 {
			memoryPublish(t, b, "kept.c", fmt.Sprint(i))
			one.all()[len(one.all())-1].Done(true)
		}
		require.EqualValues(t, 3, b.Statistics().GroupLost, "what was read is not lost")
	})
}

// A message that is with a member is delivered again though history has lost it.
func TestMemoryGroupKeepsWhatIsNotAcknowledged(t *testing.T) {
	ackTest(t, func(t *testing.T, b *pubsub.MemoryBroker) {
		o := pubsub.GroupOptions{Ack: true, MaxPending: 1, AckWait: time.Hour}
		one := memoryJoin(t, b, "kept.a", o)
		memoryPublish(t, b, "kept.a", "a")
		for i := range 10 {
			memoryPublish(t, b, "kept.a", fmt.Sprint(i))
		}
		require.Equal(t, "a:1", one.took())
		one.leave()
		one = memoryJoin(t, b, "kept.a", o)
		require.Equal(t, "a:2", one.took())
	})
}

func TestMemoryGroupJoinsTopicsThatComeLater(t *testing.T) {
	b := newMemoryBroker(t, pubsub.WithHistory("kept.*", pubsub.History{Messages: 5, Topics: 2}))
	one := memoryJoin(t, b, "kept.*", pubsub.GroupOptions{Ack: true})
	other := memoryJoin(t, b, "kept.3", pubsub.GroupOptions{Ack: true})
	for i := range 10 {
		memoryPublish(t, b, fmt.Sprintf("kept.%d", i%5), fmt.Sprint(i))
	}
	require.Equal(t, "0:1 1:1 2:1 3:1 4:1 5:1 6:1 7:1 8:1 9:1", one.took())
	require.Equal(t, "3:1 8:1", other.took())
	require.Zero(t, b.Statistics().GroupLost)
}
