//go:build race

package arpc_test

// fuzzSlack is what a process may allocate whatever it receives, in bytes. The race
// detector throws pooled buffers away at random.
const fuzzSlack = 64 << 20
