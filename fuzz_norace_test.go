//go:build !race

package arpc_test

// fuzzSlack is what a process may allocate whatever it receives, in bytes.
const fuzzSlack = 4 << 20
