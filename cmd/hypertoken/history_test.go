package main

import (
	"testing"
	"time"

	"hypertoken/journal"
)

func TestParseHistory(t *testing.T) {
	for text, want := range map[string]journal.History{
		"all":        {},
		"since-base": {SinceBase: true},
		"64MiB":      {Bytes: 64 << 20},
		"1GB":        {Bytes: 1e9},
		"30d":        {Age: 30 * 24 * time.Hour},
		"100000d":    {Age: maxDays * 24 * time.Hour},
		"12h":        {Age: 12 * time.Hour},
		"90m":        {Age: 90 * time.Minute},
		"64MiB,30d":  {Bytes: 64 << 20, Age: 30 * 24 * time.Hour},
		"30d,64MiB":  {Bytes: 64 << 20, Age: 30 * 24 * time.Hour},
	} {
		if got, err := parseHistory(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "none", "1000", "0B", "0d", "-1h", "0s", "64M", "1d,2d", "1MiB,2MiB", "all,1d", "1d,",
		"100001d", "99999999999999999999d", "1.5d",
	} {
		if got, err := parseHistory(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}
