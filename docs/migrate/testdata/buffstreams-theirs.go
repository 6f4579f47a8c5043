// What the left side of buffstreams.md takes for granted.
package theirs

import (
	"log"
	"strconv"

	"github.com/StabbyCutyou/buffstreams"
)

var (
	err     error
	n       int
	data    []byte
	conn    *buffstreams.TCPConn
	ln      *buffstreams.TCPListener
	manager *buffstreams.Manager
	connCfg *buffstreams.TCPConnConfig
	lnCfg   buffstreams.TCPListenerConfig
)

func handle(message []byte) error { return nil }
