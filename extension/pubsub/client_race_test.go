//go:build race

package pubsub_test

// cutRuns is how many runs with random cuts there are. The race detector makes them ten
// times slower.
const cutRuns = 40
