// Command dealer deals hands of cards. The deck is in a worker process, and the program is its own
// worker. It prints the process ID of the worker. If you kill the worker while it deals, the game
// goes on as if nothing had happened.
//
//	go run ./examples/dealer --rounds 20 --pause 1s
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"hypertoken/host"
	"hypertoken/workerproc"
)

type card struct {
	ID string `msgpack:"id"`
}

func main() {
	workerproc.Main() // first: this program is its own worker
	rounds := flag.Int("rounds", 10, "how many `hands` to deal")
	pause := flag.Duration("pause", 200*time.Millisecond, "how long to wait after each")
	seed := flag.Int("seed", 1, "what the deck is shuffled by")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := deal(ctx, *rounds, *pause, *seed); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

func deal(ctx context.Context, rounds int, pause time.Duration, seed int) error {
	table, err := host.NewEngine(ctx, host.Options{}, host.EngineOptions{Setup: map[string]any{"stack": deck()}})
	if err != nil {
		return err
	}
	defer func() { _ = table.Shutdown(context.WithoutCancel(ctx)) }()
	if _, err := table.Dispatch(ctx, "stack:shuffle", map[string]any{"seed": seed}); err != nil {
		return err
	}
	for round := range rounds {
		hand, err := host.As[[]card](table.Dispatch(ctx, "stack:draw", map[string]any{"count": 5}))
		if host.CodeOf(err) == "out_of_range" || (err == nil && len(hand) < 5) {
			// The deck is used up: gather the cards and go on.
			if _, err := table.Dispatch(ctx, "stack:reset", nil); err != nil {
				return err
			}
			if _, err := table.Dispatch(ctx, "stack:shuffle", map[string]any{"seed": seed + round}); err != nil {
				return err
			}
			hand, err = host.As[[]card](table.Dispatch(ctx, "stack:draw", map[string]any{"count": 5}))
		}
		if err != nil {
			return err
		}
		names := make([]string, len(hand))
		for k, c := range hand {
			names[k] = c.ID
		}
		fmt.Printf("hand %d: %s (worker process %d)\n", round+1, strings.Join(names, " "),
			table.Host().Stats().Workers[0].PID)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	digest, err := table.Digest(ctx)
	fmt.Println("digest", digest)
	return err
}

func deck() (cards []card) {
	for _, suit := range "SHDC" {
		for _, rank := range "A23456789TJQK" {
			cards = append(cards, card{string(rank) + string(suit)})
		}
	}
	return cards
}
