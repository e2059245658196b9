package storeload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"hypertoken/host"
	"hypertoken/journal"
)

// Order asks a process to measure its store once. Orders are JSON values on its standard input, and
// a [Result] on its standard output answers each. The process ends when its input ends.
type Order struct {
	Shape
	Milliseconds float64 `json:"ms"`
	// CorePath names a file with a core; "" for the built-in one. The first order's holds.
	CorePath string `json:"core,omitempty"`
	// Dir is where the store has its files. The first order's holds.
	Dir string `json:"dir"`
}

// OpenStore opens a store whose files are in a directory, and returns a function that closes it.
type OpenStore func(dir string) (store journal.Store, closeStore func() error, err error)

// Main is the main function of a program that measures a store for hypertoken bench. It ends the
// process with the status 1 if an order fails. Call it after workerproc.Main.
func Main(open OpenStore) {
	if err := Serve(context.Background(), os.Stdin, os.Stdout, open); err != nil {
		fmt.Fprintln(os.Stderr, "measuring a store:", err)
		os.Exit(1)
	}
}

// Serve carries out the orders of in until it ends. All of them are for one store and one host.
func Serve(ctx context.Context, in io.Reader, out io.Writer, open OpenStore) (err error) {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	var h *host.Host
	loads := map[Shape]*Load{}
	for {
		var o Order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if o.Engines < 1 || o.InFlight < 1 {
			return fmt.Errorf("an order for %v engines and actions", o.Shape)
		}
		if h == nil {
			store, closeStore, err := open(o.Dir)
			if err != nil {
				return err
			}
			h, err = host.New(ctx, host.Options{Workers: Workers, Store: store, CorePath: o.CorePath,
				Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				return errors.Join(err, closeStore())
			}
			defer func() { err = errors.Join(err, h.Shutdown(context.Background()), closeStore()) }()
		}
		l := loads[o.Shape]
		if l == nil {
			if l, err = Open(ctx, h, o.String()+"-", o.Shape); err != nil {
				return err
			}
			loads[o.Shape] = l
		}
		r, err := l.Run(ctx, time.Duration(o.Milliseconds*float64(time.Millisecond)))
		if err == nil {
			err = answers.Encode(&r)
		}
		if err != nil {
			return err
		}
	}
}
