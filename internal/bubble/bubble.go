// Package bubble tells testing/synctest bubbles, whose clock begins with the year 2000,
// from the world: what is of one must not be used in the other.
package bubble

import "time"

// Is reports whether a time is that of a bubble.
func Is(t time.Time) bool { return t.Year() < 2020 }
