package router

import (
	"strconv"
	"time"

	"github.com/arpc-go/arpc"
)

// RetryAfterKey is the key, in the metadata of a refused request's response, of
// the time after which it may be sent again: milliseconds in decimal digits. A peer
// of version 1 reads it in the text of the error only.
const RetryAfterKey = "retry-after-ms"

// maxRetryAfter is the longest time that is said, or believed.
const maxRetryAfter = 24 * time.Hour

func formatRetryAfter(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// RetryAfter returns the time after which a refused request may be sent again, 0
// to 24 hours, from the metadata of its response, see
// arpc.ContextWithResponseMetadata; false if it does not say. Many callers that wait
// exactly so long come at the same time: a random part more is kind.
func RetryAfter(md arpc.Metadata) (after time.Duration, ok bool) {
	text, ok := md[RetryAfterKey]
	if !ok {
		return 0, false
	}
	ms, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false
	}
	return time.Duration(min(ms, uint64(maxRetryAfter.Milliseconds()))) * time.Millisecond, true
}
