package main

import "github.com/arpc-go/arpc"

// What both ends share. Programs of their own would have it in a package that
// both import.
type (
	City    struct{ Name string }
	Weather struct{ Sky, Temperature string }
	Warning struct{ Text string }
	Reading struct{ Celsius float64 }
	Average struct {
		Readings int
		Celsius  float64
	}
)

var (
	// Forecast is a call that may run twice without harm.
	Forecast = arpc.NewMethod[City, Weather]("/forecast", arpc.Idempotent)
	// Unit is what the server asks its clients.
	Unit = arpc.NewMethod[struct{}, string]("/unit")
	// Alert is not answered.
	Alert = arpc.NewNotice[Warning]("/alert")
	// Readings is a stream of readings one way and of averages the other.
	Readings = arpc.NewStreamMethod[Reading, Average]("/readings")
)
