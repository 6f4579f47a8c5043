// What the snippets of all documents take for granted.
package assumed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/codec/cbor"
	"github.com/arpc-go/arpc/codec/msgpack"
	"github.com/arpc-go/arpc/middleware/call"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/arpc-go/arpc/middleware/coder/s2"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
	"github.com/arpc-go/arpc/middleware/router"
)

var (
	ctx     context.Context
	err     error
	server  *arpc.Server
	client  *arpc.Client
	pool    *arpc.ClientPool
	handler *arpc.Handler
	dialer  arpc.DialerFunc
)
