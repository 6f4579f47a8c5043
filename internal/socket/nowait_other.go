//go:build unix && (!linux || 386 || s390x || race || msan || asan)

package socket

import "syscall"

const neverBlocks = false // that is the socket's to say

// The tools that watch memory have to see what the kernel does with it.

func read(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

func write(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
