package subject_test

import (
	"fmt"
	"slices"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

func ExampleCheckTopic() {
	fmt.Println(subject.CheckTopic("orders.eu.created"))
	fmt.Println(subject.CheckTopic("chat room/1"))
	fmt.Println(subject.CheckTopic("orders.*.created"))
	fmt.Println(subject.CheckTopic(""))
	// Output:
	// <nil>
	// <nil>
	// invalid topic, should not have the wildcard "*" as a token: wildcards are for subscribing
	// invalid topic, should not be ""
}

func ExampleCheckFilter() {
	fmt.Println(subject.CheckFilter("orders.*.created"))
	fmt.Println(subject.CheckFilter("orders.>"))
	fmt.Println(subject.CheckFilter("orders.>.created"))
	// Output:
	// <nil>
	// <nil>
	// invalid topic, the wildcard ">" should be the last token
}

func ExampleIsLiteral() {
	fmt.Println(subject.IsLiteral("orders.eu.created"), subject.IsLiteral("orders.*.created"))
	// Output: true false
}

func ExampleMatch() {
	for _, filter := range []string{"orders.*.created", "orders.>", "orders.*"} {
		fmt.Println(filter, subject.Match(filter, "orders.eu.created"))
	}
	// Output:
	// orders.*.created true
	// orders.> true
	// orders.* false
}

// Who may subscribe to orders.eu.> may subscribe to all that it covers.
func ExampleCovers() {
	const allowed = "orders.eu.>"
	for _, filter := range []string{"orders.eu.*", "orders.eu.created", "orders.*.created"} {
		fmt.Println(filter, subject.Covers(allowed, filter))
	}
	// Output:
	// orders.eu.* true
	// orders.eu.created true
	// orders.*.created false
}

func ExampleOverlaps() {
	fmt.Println(subject.Overlaps("orders.eu.*", "orders.*.created"))
	fmt.Println(subject.Overlaps("orders.eu.*", "orders.us.>"))
	// Output:
	// true
	// false
}

func ExampleMatcher() {
	var m subject.Matcher[string] // of the names of those who are interested
	for filter, name := range map[string]string{
		"orders.eu.created": "Ada", "orders.*.created": "Grace", "orders.>": "Edsger", "chat room/1": "Tony",
	} {
		if _, err := m.Add(filter, name); err != nil {
			fmt.Println(err)
		}
	}
	found := m.Match("orders.eu.created", nil)
	slices.Sort(found)
	fmt.Println(found, m.Len())
	// Output: [Ada Edsger Grace] 4
}

func ExampleMatcher_Each() {
	var m subject.Matcher[func(topic string)]
	m.Add("orders.*", func(topic string) { fmt.Println("got", topic) })

	const topic = "orders.created"
	m.Each(topic, func(deliver func(string)) { deliver(topic) })
	// Output: got orders.created
}

func ExampleMatcher_Remove() {
	var m subject.Matcher[string]
	entry, err := m.Add("orders.*", "Ada")
	fmt.Println(m.Match("orders.created", nil), err)
	fmt.Println(m.Remove(entry), m.Remove(entry))
	fmt.Println(m.Match("orders.created", nil))
	// Output:
	// [Ada] <nil>
	// true false
	// []
}
