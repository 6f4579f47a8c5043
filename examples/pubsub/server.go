package main

import "github.com/arpc-go/arpc/extension/pubsub"

// newServer returns the server. All it does is to pass messages on, to those who know
// the password.
func newServer() *pubsub.Server {
	s := pubsub.NewServer()
	s.Password = password
	return s
}
