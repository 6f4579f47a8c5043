// Package transient lets packages of this module have the Contexts of a handler
// reused, and messages lent, which for those of others would not be safe.
package transient

// Lend says that nobody changes a message any more: connections may send it from where
// it lies, after it was pushed. m is an *arpc.Message. Set by package arpc.
var Lend func(m any)

// Mark says that the handler of a method keeps nothing of its Context: neither the
// Context nor anything made from it is used when the handler has returned, and it is
// never detached. Where middleware stands around the handler nothing is reused all the
// same. h is an *arpc.Handler with a handler for the method. Set by package arpc.
var Mark func(h any, method string)
