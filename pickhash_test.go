package arpc_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// poolKeys are 10,000 keys and who gets them.
func poolKeys(t testing.TB, members []*arpc.Member) map[string]string {
	t.Helper()
	picker := arpc.ConsistentHash(poolKeyOf)
	owners := make(map[string]string, 10000)
	for i := range 10000 {
		key := fmt.Sprintf("user-%d", i)
		owners[key] = picker.Pick(poolWithKey(t.Context(), key), "/m", members).Name()
	}
	return owners
}

// poolMoved returns how many keys have another owner, by the one they had.
func poolMoved(before, after map[string]string) map[string]int {
	moved := make(map[string]int)
	for key, owner := range before {
		if after[key] != owner {
			moved[owner]++
		}
	}
	return moved
}

func TestConsistentHashSpreadsKeys(t *testing.T) {
	pool, _ := poolStart(t, 10)
	counts := make(map[string]int)
	for _, owner := range poolKeys(t, pool.Members()) {
		counts[owner]++
	}
	for _, m := range pool.Members() {
		require.InDelta(t, 1000, counts[m.Name()], 100)
	}
}

// The keys of one that goes move, to all others, and no other key does; the
// order of the members does not matter.
func TestConsistentHashMovesOnlyTheKeysOfWhoGoes(t *testing.T) {
	pool, _ := poolStart(t, 10)
	members := pool.Members()
	before := poolKeys(t, members)

	left := slices.Delete(slices.Clone(members), 3, 4)
	rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	after := poolKeys(t, left)
	moved := poolMoved(before, after)
	require.Equal(t, []string{"3"}, slices.Collect(maps.Keys(moved)))
	require.InDelta(t, 1000, moved["3"], 100)

	gained := poolMoved(after, before)
	require.Len(t, gained, 9, "its keys are spread over all that are left")
	for member, n := range gained {
		require.InDelta(t, moved["3"]/9, n, 40, member)
	}
}

// Coming, a member takes its share, and takes it from all.
func TestConsistentHashMovesKeysOnlyToWhoComes(t *testing.T) {
	pool, servers := poolStart(t, 9)
	before := poolKeys(t, pool.Members())
	_, err := pool.Add("new", servers[0].dial)
	require.NoError(t, err)
	after := poolKeys(t, pool.Members())
	taken := poolMoved(after, before)
	require.Equal(t, []string{"new"}, slices.Collect(maps.Keys(taken)))
	require.InDelta(t, 1000, taken["new"], 100)
	require.Len(t, poolMoved(before, after), 9)
}

// Keys of a member that is lost go to others, and come back with it.
func TestConsistentHashOfAMemberThatIsLostAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 4)
		back := make(chan error)
		pool.Handler().HandleReconnect(func(_ *arpc.Client, _ int, err error) {
			if err == nil {
				back <- nil
			}
		})
		before := poolKeys(t, pool.Members())
		servers[2].down()
		synctest.Wait()
		moved := poolMoved(before, poolKeys(t, pool.Members()))
		require.Equal(t, []string{"2"}, slices.Collect(maps.Keys(moved)))

		servers[2].up(t)
		<-back
		require.Equal(t, before, poolKeys(t, pool.Members()))
	})
}

// Processes that talk to the same members agree, whatever they were started as.
func TestConsistentHashIsTheSameInEveryProcess(t *testing.T) {
	pool, _ := poolStart(t, 5)
	owners := poolKeys(t, pool.Members())
	require.Equal(t, []string{"0", "0", "2", "4"}, []string{owners["user-0"], owners["user-1"], owners["user-2"], owners["user-3"]})
}

func TestConsistentHashKeysByMethod(t *testing.T) {
	pool, _ := poolStart(t, 5)
	pool.SetPicker(arpc.ConsistentHash(func(_ context.Context, method string) string { return method }))
	var names [2]string
	for range 10 {
		require.NoError(t, pool.Call("/name", nil, &names[0], suitePatience))
		require.NoError(t, pool.CallWith(t.Context(), "/name", nil, &names[1]))
		require.Equal(t, names[0], names[1])
	}
}

func TestConsistentHashWithoutAKeyFunction(t *testing.T) {
	require.PanicsWithValue(t, "arpc: ConsistentHash: the key function is nil", func() { arpc.ConsistentHash(nil) })
}

type userKey struct{}

func ExampleConsistentHash() {
	server := arpc.NewServer()
	server.Handler.Handle("/cart", func(ctx *arpc.Context) { ctx.Write("ok") })
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	defer server.Stop()
	pool, err := arpc.NewClientPool(ln.Dial, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Stop()
	pool.SetPicker(arpc.ConsistentHash(func(ctx context.Context, method string) string {
		user, _ := ctx.Value(userKey{}).(string)
		return user
	}))
	var reply string
	ctx := context.WithValue(context.Background(), userKey{}, "alice") // always the same member
	err = pool.CallWith(ctx, "/cart", nil, &reply)
	fmt.Println(reply, err)
	// Output: ok <nil>
}
