package top

import (
	"fmt"
	"math"
)

// none is shown for an unknown figure.
const none = "-"

// scaled writes v in the first unit in which it is below 999.5, in at most 5 characters. Each unit
// is step times the one before it.
func scaled(v, step float64, units []string) string {
	for i, unit := range units {
		switch last := i == len(units)-1; {
		case v < 9.95 && i > 0:
			return fmt.Sprintf("%.1f%s", v, unit)
		case v < 999.5:
			return fmt.Sprintf("%.0f%s", v, unit)
		case last:
			return ">999" + unit
		}
		v /= step
	}
	return none
}

var (
	decimal = []string{"", "k", "M", "G", "T", "P"}
	binary  = []string{"B", "K", "M", "G", "T", "P"}
)

// count writes a whole number: 9999, 12k, 3.4M.
func count(f Figure) string {
	switch {
	case !f.known():
		return none
	case f > -10_000 && f < 9999.5:
		return fmt.Sprintf("%.0f", float64(f))
	case f < 0:
		return "-" + count(-f)
	}
	return scaled(float64(f), 1000, decimal)
}

// whole writes all digits of a number.
func whole(f Figure) string {
	if !f.known() || f > 1e15 {
		return count(f)
	}
	return fmt.Sprintf("%.0f", float64(f))
}

// rate writes how many there are a second: 0, 0.3, 42, 1.2k.
func rate(f Figure) string {
	switch {
	case !f.known():
		return none
	case f <= 0:
		return "0"
	case f < 0.1:
		return "<0.1"
	case f < 9.95:
		return fmt.Sprintf("%.1f", float64(f))
	}
	return scaled(float64(f), 1000, decimal)
}

// bytesOf writes a size: 512B, 1.5K, 210M.
func bytesOf(f Figure) string {
	if !f.known() || f < 0 {
		return none
	}
	return scaled(float64(f), 1024, binary)
}

// seconds writes how long something took: 420µs, 3.1ms, 12s.
func seconds(f Figure) string {
	switch {
	case !f.known() || f < 0:
		return none
	case f == 0:
		return "0"
	case f < 0.9995e-6:
		return "<1µs"
	case f < 0.9995e-3:
		return short(float64(f)*1e6, "µs")
	case f < 0.9995:
		return short(float64(f)*1e3, "ms")
	case f < 99.5:
		return short(float64(f), "s")
	}
	return span(f)
}

func short(v float64, unit string) string {
	if v < 9.95 {
		return fmt.Sprintf("%.1f%s", v, unit)
	}
	return fmt.Sprintf("%.0f%s", v, unit)
}

// span writes how long something has been: 59s, 2m13s, 13m, 2h13m, 12d3h.
func span(f Figure) string {
	if !f.known() || f < 0 {
		return none
	}
	if f > 999*86400 {
		return fmt.Sprintf(">%dd", 999)
	}
	s := int(math.Floor(float64(f)))
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 3600:
		return fmt.Sprintf("%dm", s/60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	case s < 100*86400:
		return fmt.Sprintf("%dd%dh", s/86400, s/3600%24)
	}
	return fmt.Sprintf("%dd", s/86400)
}

// percent writes a part of 1, whole if it is 10% or more.
func percent(f Figure) string {
	switch p := float64(f) * 100; {
	case !f.known():
		return none
	case p <= 0:
		return "0%"
	case p < 0.1:
		return "<0.1%"
	case p < 9.95:
		return fmt.Sprintf("%.1f%%", p)
	case p > 99_999:
		return ">99k%"
	default:
		return fmt.Sprintf("%.0f%%", p)
	}
}
