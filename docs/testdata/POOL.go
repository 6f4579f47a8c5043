package assumed

var req, rsp any

func userFrom(context.Context) string { return "" }
