//go:build !race

package pubsub_test

// cutRuns is how many runs with random cuts there are.
const cutRuns = 500
