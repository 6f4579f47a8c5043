package assumed

var (
	graceful  *router.Graceful
	auth      *router.Auth
	rateLimit *router.RateLimit
	timeout   *router.Timeout
	adaptive  *router.Adaptive
)

func echo(*arpc.Context) {}
