// Command clusternode is an application that joins a cluster, and draws cards at a table that all
// nodes share: other programs like it, and servers of 'hypertoken serve --cluster'. Start it
// several times, and kill one.
//
//	hypertoken cluster dev --listen-from 9500 --dir cluster
//	go run ./examples/clusternode --servers nats://127.0.0.1:9506 --secret cluster/secret
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"hypertoken/cluster"
	"hypertoken/host"
	"hypertoken/journal/jetstream"
	"hypertoken/workerproc"
)

func main() {
	workerproc.Main() // first: this program is its own worker
	servers := flag.String("servers", "nats://127.0.0.1:4222", "the NATS servers, separated by commas")
	address := flag.String("advertise", "127.0.0.1:0", "where the other nodes reach this one")
	secretFile := flag.String("secret", "secret", "the `file` with the secret of the nodes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	secret, err := os.ReadFile(*secretFile)
	if err != nil {
		log.Fatal(err)
	}
	if err := play(ctx, cluster.Options{Secret: string(bytes.TrimSpace(secret)), Store: jetstream.Options{
		Servers: strings.Split(*servers, ","), Address: *address, Sync: jetstream.SyncTrusted}}); err != nil {
		log.Fatal(err)
	}
}

func play(ctx context.Context, o cluster.Options) error {
	h, err := cluster.Join(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = h.Shutdown(context.Background()) }() // gives its engines to the other nodes
	table, err := h.Open(ctx, "table", host.EngineOptions{Setup: map[string]any{"stack": deck()}})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		r, err := table.Dispatch(ctx, "stack:shuffle", nil)
		if err != nil {
			return err
		}
		fmt.Println("shuffle", r.Sequence)
		time.Sleep(time.Second)
	}
	return nil
}

func deck() (cards []map[string]any) {
	for k := range 52 {
		cards = append(cards, map[string]any{"id": fmt.Sprint("card-", k)})
	}
	return cards
}
