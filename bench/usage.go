package main

import (
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used since it started.
type Usage struct {
	CPU     time.Duration `json:"cpu"`     // user and system, 0 where unknown
	Mallocs uint64        `json:"mallocs"` // objects allocated
	Peak    int64         `json:"peak"`    // bytes resident at most, 0 where unknown
	Now     Footprint     `json:"now"`
}

// Footprint is what a process holds at a moment.
type Footprint struct {
	Resident   int64 `json:"resident"` // bytes, 0 where unknown
	Heap       int64 `json:"heap"`     // bytes of the heap and the stacks in use
	Goroutines int64 `json:"goroutines"`
}

func ownUsage() Usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Usage{
		CPU:     processCPU(),
		Mallocs: m.Mallocs,
		Peak:    ownStatus("VmHWM"),
		Now: Footprint{
			Resident:   ownStatus("VmRSS"),
			Heap:       int64(m.HeapAlloc + m.StackInuse),
			Goroutines: int64(runtime.NumGoroutine()),
		},
	}
}

// ownStatus returns a figure of Linux about this process in bytes, 0 elsewhere.
func ownStatus(key string) int64 {
	text, _, _ := strings.Cut(field("/proc/self/status", key, ":"), " ")
	kib, _ := strconv.ParseInt(text, 10, 64)
	return kib << 10
}

// settle gives back what nobody needs, so that a Footprint is of what is held.
func settle() {
	runtime.GC() // pools keep what they have for one more
	debug.FreeOSMemory()
}

// since is what was used between two moments of a process.
func (u Usage) since(before Usage) Usage {
	u.CPU -= before.CPU
	u.Mallocs -= before.Mallocs
	return u
}

// since is how much a process has grown.
func (f Footprint) since(before Footprint) Footprint {
	return Footprint{f.Resident - before.Resident, f.Heap - before.Heap, f.Goroutines - before.Goroutines}
}
