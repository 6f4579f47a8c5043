package assumed

import "github.com/arpc-go/arpc/extension/buffstreams"

var (
	c       *buffstreams.Conn
	l       *buffstreams.Listener
	message []byte
)

func handle(message []byte) error { return nil }

func keep(message []byte, cause error) {}
