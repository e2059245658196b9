package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"hypertoken/cmd/hypertoken/internal/bench"
)

// picture is a figure of the document.
type picture struct{ file, title, text string }

// The colours can be read on white and on black.
var (
	ink     = color.RGBA{0x80, 0x86, 0x8e, 0xff}
	palette = []color.Color{color.RGBA{0x2f, 0x81, 0xf7, 0xff}, color.RGBA{0xe0, 0x6c, 0x1c, 0xff},
		color.RGBA{0x2e, 0xa0, 0x43, 0xff},
		color.RGBA{0xa3, 0x71, 0xf7, 0xff}}
)

func newPlot(x, y string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Label.TextStyle.Color = ink, ink
		a.Tick.Color, a.Tick.Label.Color = ink, ink
	}
	p.Legend.TextStyle.Color = ink
	p.Legend.Top, p.Legend.Left = true, true // on the left, names begin after their lines in every font
	return p
}

func save(p *plot.Plot, name string) error {
	c := vgsvg.New(18*vg.Centimeter, 9*vg.Centimeter)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	// If a reader does not have the font, a similar one is used.
	svg := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:'Liberation Sans',Arial,sans-serif;"))
	return os.WriteFile(name, svg, 0o644)
}

// latencies draws histograms over a logarithmic axis.
func latencies(list []*bench.Histogram) (*plot.Plot, error) {
	p := newPlot("µs", "% of calls")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	least, most := math.Inf(1), 0.0
	for k, h := range list {
		all := 0
		for _, n := range h.Counts {
			all += n
		}
		var line plotter.XYs
		for bucket, n := range h.Counts {
			share := 100 * float64(n) / float64(all)
			if n == 0 && len(line) == 0 {
				continue
			}
			at := h.From * math.Pow(h.Growth, float64(bucket))
			line = append(line, plotter.XY{X: at, Y: share})
			if share > 0.02 {
				least, most = min(least, at), max(most, at)
			}
		}
		l, err := plotter.NewLine(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.ID, err)
		}
		l.StepStyle = plotter.PostStep
		l.Color, l.Width = palette[k%len(palette)], vg.Points(1.5)
		p.Add(l)
		p.Legend.Add(strings.ReplaceAll(h.ID, "_", " "), l)
	}
	p.X.Min, p.X.Max = min(least/1.2, 1), most*1.5
	p.Y.Min, p.Y.Max = 0, p.Y.Max*1.4 // the legend is above the lines
	return p, nil
}

// curve is throughput by the number of workers, in times of that of one.
type curve struct {
	name   string
	points plotter.XYs
	errs   plotter.YErrors
}

func (c curve) YError(k int) (low, high float64) { return c.errs[k].Low, c.errs[k].High }
func (c curve) Len() int                         { return len(c.points) }
func (c curve) XY(k int) (x, y float64)          { return c.points[k].X, c.points[k].Y }

// curves finds the scaling curves of a run.
func curves(r *bench.Report) (list []curve) {
	for _, kind := range []struct{ group, name string }{{"heavy", "shuffles of 10,000 tokens"},
		{"light", "draws from 52 tokens"}} {
		c := curve{name: kind.name}
		one := 0.0
		for _, f := range r.Figures {
			n := 0
			if _, err := fmt.Sscanf(strings.TrimPrefix(f.ID, kind.group), "_%d_workers.rate", &n); err != nil ||
				f.Group != kind.group {
				continue
			}
			if n == 1 {
				one = f.Median
			}
			c.points = append(c.points, plotter.XY{X: float64(n), Y: f.Median})
			c.errs = append(c.errs, struct{ Low, High float64 }{f.Median - f.Min, f.Max - f.Median})
		}
		if one == 0 || len(c.points) < 2 {
			continue
		}
		for k := range c.points {
			c.points[k].Y /= one
			c.errs[k].Low, c.errs[k].High = c.errs[k].Low/one, c.errs[k].High/one
		}
		list = append(list, c)
	}
	return list
}

func scaling(list []curve) (*plot.Plot, error) {
	p := newPlot("workers", "times the throughput of one")
	p.Y.Min = 0
	for k, c := range list {
		l, points, err := plotter.NewLinePoints(c)
		if err != nil {
			return nil, err
		}
		bars, err := plotter.NewYErrorBars(c)
		if err != nil {
			return nil, err
		}
		l.Color, points.Color, bars.Color = palette[k], palette[k], palette[k]
		l.Width = vg.Points(1.5)
		points.Shape = draw.CircleGlyph{}
		p.Add(l, points, bars)
		p.Legend.Add(c.name, l, points)
	}
	p.X.Min, p.X.Max = 0.5, p.X.Max+0.5
	p.Y.Max *= 1.25
	p.X.Tick.Marker = plot.TickerFunc(func(from, to float64) (ticks []plot.Tick) {
		for n := math.Ceil(from); n <= to; n++ {
			ticks = append(ticks, plot.Tick{Value: n, Label: fmt.Sprint(n)})
		}
		return ticks
	})
	return p, nil
}

// pictures draws the pictures for which the run has figures into the directory, and returns them.
func pictures(r *bench.Report, directory string) (drawn []picture, err error) {
	add := func(pic picture, p *plot.Plot, err error) error {
		if err == nil {
			err = save(p, filepath.Join(directory, pic.file))
		}
		drawn = append(drawn, pic)
		return err
	}
	if len(r.Histograms) > 0 {
		p, e := latencies(r.Histograms)
		err = add(picture{"latency.svg", "Latencies",
			"How long calls take, one at a time. The height is the share of calls in a bucket; each bucket is\n" +
				"5 % wider than the one before it."}, p, e)
	}
	if list := curves(r); err == nil && len(list) > 0 {
		p, e := scaling(list)
		err = add(picture{"scaling.svg", "Scaling", fmt.Sprintf(
			"Throughput of engines with one caller each, by the number of workers, on %d cores: the median,\n"+
				"the least and the greatest value.", r.Machine.Cores)}, p, e)
	}
	return drawn, err
}
