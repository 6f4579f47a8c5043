//go:build race

package pubsub_test

// broadcastTo is less than the 8128 goroutines that the race detector can follow.
const broadcastTo = 1_000

// randomCutRuns is how often random cuts are tried.
const randomCutRuns = 100
