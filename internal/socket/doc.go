// Package socket reads and writes sockets without waiting, which net.Conn cannot: an
// idle connection holds no buffer, and whoever flushes never blocks. There is nothing
// in it but on Unix.
package socket
