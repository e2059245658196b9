package host

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The defaults in docs/recovery.md are those of Options. A test of the npm package checks its own.
func TestRecoveryNumbers(t *testing.T) {
	text, err := os.ReadFile("../docs/recovery.md")
	if err != nil {
		t.Fatal(err)
	}
	var o Options
	o.setDefaults()
	row := regexp.MustCompile("(?m)^\\| ([A-Z][A-Za-z]+)(?:, `[A-Za-z]+`)? \\| " +
		"([0-9][0-9,]*)(?: (ms|s|KiB|MiB))?(?: [a-z ]+)? \\|")
	units := map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20,
		"ms": int64(time.Millisecond), "s": int64(time.Second)}
	checked := 0
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		field := reflect.ValueOf(o).FieldByName(m[1])
		if !field.IsValid() {
			t.Errorf("there is no option %s", m[1])
			continue
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(m[2], ",", ""), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(n * units[m[3]]); fmt.Sprint(field.Int()) != want {
			t.Errorf("Options.%s has the default %v, docs/recovery.md says %s %s", m[1], field, m[2], m[3])
		}
		checked++
	}
	if checked < 14 {
		t.Errorf("%d numbers were checked", checked)
	}
}
