package arpc

import (
	"encoding/json"
	"maps"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Routes that EnableIntrospection registers. They answer in JSON, whatever the
// codec is.
const (
	RoutesMethod     = "arpc.routes"     // answers with a []RouteInfo
	StatisticsMethod = "arpc.statistics" // answers with a Statistics
)

// RouteInfo describes one registered method.
type RouteInfo struct {
	Method  string `json:"method"`
	Stream  bool   `json:"stream,omitempty"`
	Ordered bool   `json:"ordered,omitempty"` // requests, or what they are for, are handled one at a time
	// The types of a typed method, such as "main.HelloRequest"; empty for others.
	Request  string `json:"request,omitempty"`
	Response string `json:"response,omitempty"`
}

// Statistics is a picture of what a Handler's connections have done and do.
type Statistics struct {
	Routes      []RouteStatistics      `json:"routes"`
	Connections []ConnectionStatistics `json:"connections"`
}

// RouteStatistics counts what was handled since introspection was enabled.
type RouteStatistics struct {
	Method string `json:"method"`
	Count  uint64 `json:"count"`            // requests, notifications or streams
	Errors uint64 `json:"errors,omitempty"` // requests answered with an error
	// Latency counts by the time that the handler took: element i those of less
	// than 2 to the i microseconds and not less than half of that; the last one
	// all that took longer.
	Latency []uint64 `json:"latency,omitempty"`
}

// ConnectionStatistics describes one connection.
type ConnectionStatistics struct {
	Peer       string        `json:"peer"`           // address
	Name       string        `json:"name,omitempty"` // what it calls itself
	Session    string        `json:"session,omitempty"`
	Version    int           `json:"version"`
	Age        time.Duration `json:"age"` // in nanoseconds, as RTT
	RTT        time.Duration `json:"rtt,omitempty"`
	Received   uint64        `json:"received"` // bytes
	Sent       uint64        `json:"sent"`     // bytes that the transport took
	Queued     int           `json:"queued"`   // bytes that wait to be sent
	Calls      int           `json:"calls"`    // of ours that wait for an answer
	Handling   int64         `json:"handling"` // requests and notifications of the peer in hand, off the reader
	Streams    int           `json:"streams"`
	Dropped    uint64        `json:"dropped,omitempty"`
	Missed     uint64        `json:"missed,omitempty"`     // answers nobody waited for
	Refused    uint64        `json:"refused,omitempty"`    // requests over the limits
	Overruns   uint64        `json:"overruns,omitempty"`   // streams dropped
	Overstocks uint64        `json:"overstocks,omitempty"` // messages of ours there was no room for, ErrOverstock
}

// latencyBuckets is how many powers of two of microseconds are told apart: the
// last is above 8 seconds.
const latencyBuckets = 24

// routeCounters are the statistics of a route while it is used.
type routeCounters struct {
	count   atomic.Uint64
	errors  atomic.Uint64
	latency [latencyBuckets]atomic.Uint64
}

func (r *routeCounters) handled(took time.Duration, failed bool) {
	r.count.Add(1)
	if failed {
		r.errors.Add(1)
	}
	i := bits.Len64(uint64(max(took, 0) / time.Microsecond))
	r.latency[min(i, latencyBuckets-1)].Add(1)
}

// EnableIntrospection counts what routes do from now on and registers the routes
// RoutesMethod and StatisticsMethod, for tools. Who may call them is up to the
// middleware in use before it. It costs two looks at the clock for each message.
func (h *Handler) EnableIntrospection() {
	h.change(func() {
		if h.counting {
			return
		}
		h.counting = true
		for method, rt := range h.routes {
			counted := *rt
			counted.counters = new(routeCounters)
			h.routes[method] = &counted
		}
		for method, rt := range h.streams {
			counted := *rt
			counted.counters = new(routeCounters)
			h.streams[method] = &counted
		}
		h.routes[RoutesMethod] = h.newRoute(RoutesMethod, func(ctx *Context) { writeJSON(ctx, h.Routes()) }, nil)
		h.routes[StatisticsMethod] = h.newRoute(StatisticsMethod, func(ctx *Context) { writeJSON(ctx, h.Statistics()) }, nil)
	})
}

func writeJSON(ctx *Context, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		ctx.Error(err)
		return
	}
	ctx.Write(b)
}

// Routes lists the registered methods by name.
func (h *Handler) Routes() []RouteInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]RouteInfo, 0, len(h.routes)+len(h.streams))
	for method, rt := range h.routes {
		list = append(list, h.types[method].info(RouteInfo{Method: method, Ordered: rt.orderedRequest}))
	}
	for method := range h.streams {
		list = append(list, h.types[method].info(RouteInfo{Method: method, Stream: true}))
	}
	slices.SortFunc(list, func(a, b RouteInfo) int { return strings.Compare(a.Method, b.Method) })
	return list
}

// Statistics returns what was counted since EnableIntrospection, and the
// connections that this Handler serves now. Without it routes are not counted.
func (h *Handler) Statistics() Statistics {
	h.mu.Lock()
	counters := make(map[string]*routeCounters, len(h.routes)+len(h.streams))
	for method, rt := range h.routes {
		counters[method] = rt.counters
	}
	for method, rt := range h.streams {
		counters[method] = rt.counters
	}
	h.mu.Unlock()
	stats := Statistics{Routes: []RouteStatistics{}, Connections: []ConnectionStatistics{}}
	for method, c := range counters {
		if c != nil && c.count.Load() > 0 {
			stats.Routes = append(stats.Routes, c.snapshot(method))
		}
	}
	slices.SortFunc(stats.Routes, func(a, b RouteStatistics) int { return strings.Compare(a.Method, b.Method) })
	for _, c := range h.open.all() {
		stats.Connections = append(stats.Connections, c.statistics())
	}
	slices.SortFunc(stats.Connections, func(a, b ConnectionStatistics) int { return strings.Compare(a.Peer, b.Peer) })
	return stats
}

func (r *routeCounters) snapshot(method string) RouteStatistics {
	s := RouteStatistics{Method: method, Count: r.count.Load(), Errors: r.errors.Load()}
	last := 0
	buckets := make([]uint64, latencyBuckets)
	for i := range r.latency {
		if buckets[i] = r.latency[i].Load(); buckets[i] > 0 {
			last = i + 1
		}
	}
	s.Latency = buckets[:last]
	return s
}

func (c *conn) statistics() ConnectionStatistics {
	stats := c.client.counted()
	s := ConnectionStatistics{
		Peer: c.peer(), Version: 1, Age: time.Duration(c.now()), Received: c.received.Load(),
		Handling: c.handling.Load(), Streams: c.streams.Load().open(),
		Dropped: stats.dropped.Load(), Missed: stats.missed.Load(), Refused: stats.refused.Load(), Overruns: stats.overruns.Load(), Overstocks: stats.full.Load(),
	}
	if hello := c.hello.Load(); hello != nil {
		s.Version, s.Name, s.Session = 2, hello.Name, c.client.Session()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Sent, s.Queued, s.Calls, s.RTT = c.out.accepted, c.out.queued(), c.calls.n, c.pings.roundTrip()
	return s
}

// routeTypes are the types of a typed method, nil if it is not.
type routeTypes struct{ request, response reflect.Type }

func (t *routeTypes) info(r RouteInfo) RouteInfo {
	if t != nil {
		r.Request = t.request.String()
		if t.response != nil {
			r.Response = t.response.String()
		}
	}
	return r
}

// describe notes the types of a typed method for Routes.
func (h *Handler) describe(method string, request, response reflect.Type) {
	h.change(func() {
		types := maps.Clone(h.types) // clones share it
		if types == nil {
			types = make(map[string]*routeTypes)
		}
		types[method] = &routeTypes{request: request, response: response}
		h.types = types
	})
}
