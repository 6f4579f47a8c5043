package interop

// What the guides import: go.mod has to know it, and a result is not to be taken
// from the cache of the go command when it has changed.
import (
	_ "github.com/StabbyCutyou/buffstreams"
	_ "github.com/cmd-stream/cmd-stream-go"
	_ "github.com/cmd-stream/cmd-stream-go/sender/hooks"

	_ "github.com/arpc-go/arpc/extension/buffstreams"
	_ "github.com/arpc-go/arpc/extension/command"
	_ "github.com/arpc-go/arpc/extension/pubsub"
	_ "github.com/arpc-go/arpc/middleware/call"
	_ "github.com/arpc-go/arpc/middleware/router"
)
