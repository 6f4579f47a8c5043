//go:build linux && !386 && !s390x && !race && !msan && !asan

package socket

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/arpc-go/arpc/internal/bubble"
)

const neverBlocks = true

// unheardBytes is how many bytes at most move without the scheduler knowing, which
// can neither stop this thread meanwhile nor give its processor to others.
const unheardBytes = 64 << 10

func read(fd int, b []byte) (int, error) {
	return transfer(syscall.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT)
}

// peek is read of what stays there to be read. Who peeks is about to wait.
func peek(fd int, b []byte) (int, error) {
	return result(unheard(syscall.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT|syscall.MSG_PEEK))
}

func write(fd int, b []byte) (int, error) {
	return transfer(syscall.SYS_SENDTO, fd, b, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

// transfer makes a system call that does not wait, and nearly always one that Go's
// scheduler does not hear of. The first that it hears of after the process was idle
// wakes its monitor, a thread that then looks around every 20 µs for a millisecond:
// between two processes that answer each other that is a tenth of the processor time
// of both, and a fifth of their latency.
func transfer(call uintptr, fd int, b []byte, flags uintptr) (int, error) {
	if len(b) > unheardBytes || beat.due() {
		n, _, errno := syscall.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		return result(n, errno)
	}
	return result(unheard(call, fd, b, flags))
}

func unheard(call uintptr, fd int, b []byte, flags uintptr) (uintptr, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	return n, errno
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// beatInterval is how long the monitor may sleep while bytes come and go. It is what
// takes the processor from a goroutine that others wait behind.
const beatInterval = 10 * time.Millisecond

// heartbeat bounds the monitor's sleep: it does not sleep beyond the next timer, and
// there is one while bytes come and go. A system call that the monitor hears of is the
// first after a pause, as it may have gone to sleep when there was no timer.
type heartbeat struct{ state atomic.Int32 }

// States of a heartbeat.
const (
	beatStopped = iota
	beatUnused  // no bytes since the timer was set
	beatUsed
)

var beat heartbeat

// due reports whether the next system call is to be heard of.
func (h *heartbeat) due() bool {
	switch h.state.Load() {
	case beatUsed:
		return false
	case beatUnused:
		return !h.state.CompareAndSwap(beatUnused, beatUsed)
	}
	// In a bubble a timer of its own might never fire.
	if !bubble.Is(time.Now()) && h.state.CompareAndSwap(beatStopped, beatUsed) {
		time.AfterFunc(beatInterval, h.beat)
	}
	return true
}

func (h *heartbeat) beat() {
	if h.state.CompareAndSwap(beatUnused, beatStopped) {
		return
	}
	h.state.Store(beatUnused)
	time.AfterFunc(beatInterval, h.beat)
}
