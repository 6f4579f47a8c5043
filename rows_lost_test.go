package arpc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// A predecessor gave the late answer to a call of the old connection to a new
// call with the same number.
func TestRow01_AnswerOfAnOldConnectionNeverReachesANewCall(t *testing.T) {
	t.Run("to a dialled client", func(t *testing.T) {
		ln, missed := memconn.Listen(), new(atomic.Int64)
		peers := rowScript(t, ln)
		c := rowDial(t, ln.Dial)
		c.Handler.HandleSessionMiss(func(*arpc.Client, *arpc.Message) { missed.Add(1) })
		first := rowNext(t, "accept", peers)
		rowCut(c.Conn())
		second := rowNext(t, "accept", peers)
		rowCut(c.Conn())
		rowStaleAnswers(t, []*rowPeer{first, second, rowNext(t, "accept", peers)}, missed, func(*rowPeer) *arpc.Client { return c })
	})
	t.Run("to an accepted client", func(t *testing.T) {
		ln, missed := memconn.Listen(), new(atomic.Int64)
		h := arpc.NewHandler()
		h.HandleSessionMiss(func(*arpc.Client, *arpc.Message) { missed.Add(1) })
		s := rowServe(t, ln, arpc.WithHandler(h))
		clients := make(map[*rowPeer]*arpc.Client)
		var peers []*rowPeer
		for range 3 {
			p := rowCaller(t, ln)
			clients[p] = rowClient(t, s)
			rowCut(clients[p].Conn())
			<-clients[p].Done()
			peers = append(peers, p)
		}
		last := rowCaller(t, ln)
		clients[last] = rowClient(t, s)
		rowStaleAnswers(t, append(peers, last), missed, func(p *rowPeer) *arpc.Client { return clients[p] })
	})
}

func rowStaleAnswers(t *testing.T, peers []*rowPeer, missed *atomic.Int64, client func(*rowPeer) *arpc.Client) {
}
