// What the right side of buffstreams.md takes for granted.
package ours

import (
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"strconv"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/buffstreams"
)

var (
	ctx       context.Context
	err       error
	n         int
	data      []byte
	conn      *buffstreams.Conn
	ln        *buffstreams.Listener
	manager   *buffstreams.Manager
	connCfg   *buffstreams.ConnConfig
	lnCfg     buffstreams.ListenerConfig
	tlsConfig *tls.Config
	dialer    arpc.DialerFunc
)

func handle(message []byte) error { return nil }

func save(message []byte, cause error) {}

type Order struct{ ID int }
