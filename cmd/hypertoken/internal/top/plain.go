package top

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// plainWidth is how wide plain output is.
const plainWidth = 100

// blocks writes a block for each interval that has ended.
func blocks(ctx context.Context, c Config, w *watch) error {
	ticks := time.NewTicker(c.Interval)
	defer ticks.Stop()
	for n := 0; c.Count == 0 || n < c.Count; n++ {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return nil
		}
		r := w.client.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.take(r)
		write := writePlain
		if c.Mode == JSON {
			write = writeJSON
		}
		if err := write(c.Out, w, r.at); err != nil {
			return err
		}
	}
	if w.gone != nil {
		return fmt.Errorf("%w: %s: %w", ErrGone, w.client.name, w.gone.err)
	}
	return nil
}

func writePlain(out io.Writer, w *watch, at time.Time) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n", at.Format(time.RFC3339))
	if w.gone != nil {
		fmt.Fprintf(&b, "GONE since %s: %s\n\n", w.gone.since.Format(clock), w.gone.err)
	} else {
		v := view{frame: w.frame, width: plainWidth, every: w.every, plain: true}
		for _, line := range v.lines() {
			b.WriteString(line)
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	_, err := out.Write(b.Bytes())
	return err
}

// writeJSON writes the frame. If the server is gone, it writes since when, and why.
func writeJSON(out io.Writer, w *watch, at time.Time) error {
	var v any = w.frame
	if w.gone != nil {
		v = struct {
			At    time.Time `json:"at"`
			URL   string    `json:"url"`
			Since time.Time `json:"gone_since"`
			Error string    `json:"error"`
		}{at, w.client.name, w.gone.since, w.gone.err.Error()}
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
