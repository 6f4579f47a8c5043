package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

// machine describes what the figures were measured on.
func machine() string {
	model := cmp.Or(field("/proc/cpuinfo", "model name", ":"), "unknown processor")
	system := cmp.Or(field("/etc/os-release", "PRETTY_NAME", "="), "unknown system")
	return fmt.Sprintf("%d cores, %s, %s, %s %s/%s", runtime.NumCPU(), model, system, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// field returns the first value of a key in a file of keys and values, empty if
// there is none.
func field(path, key, separator string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		k, v, ok := strings.Cut(line, separator)
		if ok && strings.TrimSpace(k) == key {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// tick is the unit of /proc/stat.
const tick = 10 * time.Millisecond

// machineCPU returns the time that all processors have worked, for whomever,
// or -1 where that is unknown.
func machineCPU() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	columns := strings.Fields(string(text))
	if err != nil || len(columns) < 9 {
		return -1
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // all but idle and waiting
		n, err := strconv.ParseInt(columns[i], 10, 64)
		if err != nil {
			return -1
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// moduleVersion returns the version of a module that this program was built
// with, such as "1.2.17".
func moduleVersion(path string) string {
	return cmp.Or(moduleVersions()[path], "of an unknown version")
}

var moduleVersions = sync.OnceValue(func() map[string]string {
	all := map[string]string{}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return all
	}
	for _, m := range info.Deps {
		all[m.Path] = strings.TrimSuffix(strings.TrimPrefix(m.Version, "v"), "+incompatible")
	}
	return all
})
