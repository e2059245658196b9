package msgjson

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// A number is an integer or a float. In JSON, a number with a point or an exponent is a float. So
// a float is always written with a point or an exponent, and is read as the same float again.

// number reads a JSON number as an int64 or a float64.
//
// A float is the one nearest to the text, as in other JSON readers. But a program that writes
// 9007199254740993.0 does not mean 9007199254740992. So a number outside ±MaxInt must be exactly a
// float, if that float is written with as many digits as the text has.
func number(text string) (any, *ValueError) {
	if !strings.ContainsAny(text, ".eE") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < -MaxInt || n > MaxInt {
			return nil, &ValueError{fmt.Sprintf(
				"the integer %s is outside ±%d: send it as a string, or as a float with an exponent", clip(text),
				int64(MaxInt))}
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	digits := significant(text)
	switch {
	case err != nil:
		return nil, &ValueError{fmt.Sprintf("the number %s is too large: the largest is %g", clip(text),
			math.MaxFloat64)}
	case f == 0 && digits != "":
		return nil, &ValueError{fmt.Sprintf(
			"the number %s is too small: the smallest above 0 is %g", clip(text), math.SmallestNonzeroFloat64)}
	case math.Abs(f) > MaxInt && !hasDigits(f, digits):
		return nil, &ValueError{fmt.Sprintf(
			"no float is the number %s, which is outside ±%d: the nearest is %s; send it as a string",
			clip(text), int64(MaxInt), formatFloat(f))}
	}
	return f, nil
}

// Int returns the integer that a value is, as an integer or as a float, and false for any other
// value.
func Int(value msgpack.RawMessage) (int64, bool) {
	var v any
	if len(value) == 0 || value[0] == msgpcode.Nil || msgpack.Unmarshal(value, &v) != nil {
		return 0, false
	}
	switch n := reflect.ValueOf(v); n.Kind() {
	case reflect.Float64:
		f := n.Float()
		return int64(f), f == math.Trunc(f) && math.Abs(f) <= MaxInt
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return n.Int(), true
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return int64(n.Uint()), n.Uint() <= MaxInt
	}
	return 0, false
}

// maxDigits is the greatest number of significant digits of a float that is an integer. Floats
// near the largest one have so many.
const maxDigits = 309

// hasDigits reports whether digits are the significant digits of a float. The float is written in
// two ways: with as many digits as digits has, and with the fewest that identify it. Both are
// needed: at a power of two, the shortest text may not be the nearest one of its length.
func hasDigits(f float64, digits string) bool {
	if len(digits) > maxDigits {
		return false
	}
	return significant(strconv.FormatFloat(f, 'e', len(digits)-1, 64)) == digits ||
		significant(strconv.FormatFloat(f, 'e', -1, 64)) == digits
}

// significant returns the digits of a number from the first to the last digit that is not 0.
func significant(text string) string {
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		text = text[:e]
	}
	digits := strings.Replace(strings.TrimPrefix(text, "-"), ".", "", 1)
	return strings.Trim(digits, "0")
}

// appendFloat writes a float with the fewest digits that identify it, and with a point or an
// exponent.
func appendFloat(out []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return out, fmt.Errorf("msgjson: the float %v is not a value of the core", f)
	}
	return append(out, formatFloat(f)...), nil
}

func formatFloat(f float64) string {
	format := byte('f')
	if size := math.Abs(f); size != 0 && size < 1e-6 || size > MaxInt {
		format = 'e'
	}
	text := strconv.FormatFloat(f, format, -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}
