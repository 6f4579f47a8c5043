// What the snippets of docs/PUBSUB.md take for granted.
package assumed

import (
	"log"
	"time"

	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

var (
	_ = log.Fatal
	_ = time.Hour
	_ *nats.Broker
	_ *pubsub.Server
)
