package main

import (
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
)

// startProfile writes a CPU profile to path until stop is called. With an empty
// path there is none.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// profilePath names the profile of one end of a run, empty without dir.
func profilePath(dir string, row *Row, end string) string {
	if dir == "" {
		return ""
	}
	name := strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(row.Workload.Name() + " " + row.Participant.Name())
	return filepath.Join(dir, name+"-"+end+".pprof")
}
