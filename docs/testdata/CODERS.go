package assumed

// mine stands for the package of the reader's own coder.
var mine struct{ New func() arpc.MessageCoder }
