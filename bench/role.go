package main

import (
	"fmt"
	"os"
	"slices"
)

// playRole runs this process as one end of a run if the arguments say so, and
// returns the code to exit with.
func playRole(known registry, args []string) (code int, ok bool) {
	if len(args) != 2 || !slices.Contains([]string{serveFlag, measureFlag}, args[0]) {
		return 0, false
	}
	var err error
	if args[0] == serveFlag {
		err = serveRole(known, args[1])
	} else {
		err = measureRole(known, args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1, true
	}
	return 0, true
}
