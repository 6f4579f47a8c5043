//go:build unix && (!linux || 386 || s390x || race || msan || asan)

package socket

import "syscall"

const neverBlocks = false // that is the socket's to say

// The tools that watch memory have to see what the kernel does with it.

func read(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

// peek is read of what stays there to be read.
func peek(fd int, b []byte) (int, error) {
	n, _, err := syscall.Recvfrom(fd, b, syscall.MSG_PEEK)
	return n, err
}

func write(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
