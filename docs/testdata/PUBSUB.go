package assumed

import (
	"context"
	"fmt"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

type Order struct{ Key, Customer string }

var (
	order  Order
	server *pubsub.Server
	client *pubsub.Client
)

func handle(*pubsub.Topic) {}

func work(*pubsub.Topic) {}

func reload() {}

func check(context.Context, *arpc.Client, []byte) (any, error) { return nil, nil }

var _ = fmt.Println
var _ = time.Second
