package codec_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var (
	randomKeys = strings.Fields(`
		id Created color paid weight raw tags notes parts byName next Small timeout Secret -
		nested Bytes Matrix Ints U8 I32 U32 U64 U Empty Strings Kind Data List
		name count price Value Left Right unknown ID COLOR \u0055 Kind \u212AIND ſmall li\u017ft`)

	randomValues = slices.Concat(
		strings.Fields(`
			null true false {} [] [null] [[]] [1,2] {"a":1} {"A":1,"B":null} {"red":{"name":"z"},"b":null}
			{"name":"q","count":3,"price":2.5} [{"name":"q"},null,{"COUNT":7}]
			"" "x" "1" "null" "\u00e9\n\\\/" "\ud83d\ude00" "\udead" "AAEC" "AA\/C" "AA==" "!" "2031-07-01T12:00:00Z"
			0 -0 1 -1 1.0 1e2 1E+2 1e-2 0.1 0.30000000000000004 123456789.123456789123456789
			5e-324 1e-400 1e400 1.7976931348623157e308
			127 128 -128 255 256 32767 32768 -32769 2147483647 2147483648 -2147483648 -2147483649
			4294967295 4294967296 5000000000 9223372036854775807 9223372036854775808 -9223372036854775808
			-9223372036854775809 18446744073709551615 18446744073709551616 50000000000000000000 21000000000000000000`),
		[]string{"\"\xff\"", "\"\t\""},
	)
)

// TestJSONAgainstStdAtRandom makes payloads that fit the types, nearly, where
// fuzzing rarely finds the name of a field.
func TestJSONAgainstStdAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		first, second := randomPayload(random), randomPayload(random)
		against[any](t, first, second)
		against[record](t, first, second)
		against[envelope](t, first, second)
		against[order](t, first, second)
		against[*part](t, first, second)
		against[tree](t, first, second)
		against[map[string]any](t, first, second)
		against[map[color]*part](t, first, second)
		against[map[string][]int32](t, first, second)
		against[struct{ ID **int64 }](t, first, second)

		list := fmt.Appendf(nil, "[%s,%s]", randomValues[random.IntN(len(randomValues))], first)
		against[[]part](t, list, list)
		against[[]*part](t, list, list)
		against[[]any](t, list, list)
	}
}

// randomPayload returns an object, one in three damaged.
func randomPayload(random *rand.Rand) []byte {
	pick := func(of []string) string { return of[random.IntN(len(of))] }
	space := func() string { return pick([]string{"", "", " ", "\n\t"}) }

	var members []string
	for range random.IntN(8) {
		key := pick(randomKeys) // one that was there before, now and then
		members = append(members, fmt.Sprintf(`%s"%s"%s:%s%s`, space(), key, space(), space(), pick(randomValues)))
	}
	payload := []byte("{" + strings.Join(members, ",") + "}")
	at := random.IntN(len(payload))
	switch random.IntN(6) {
	case 0:
		const noise = "\x00{}[],:\"\\x 0-+.en"
		payload[at] = noise[random.IntN(len(noise))]
	case 1:
		payload = payload[:at]
	}
	return payload
}
