package assumed

type (
	HelloRequest struct{ Name string }
	HelloReply   struct{ Text string }
)
