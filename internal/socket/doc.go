// Package socket writes to sockets without waiting, which net.Conn cannot: whoever
// flushes never blocks. There is nothing in it but on Unix.
package socket
