// Command client plays the lines of a file on a server of 'hypertoken serve', and prints the answers.
// If the server dies while it plays, it connects again, to this server or another one that has the
// same games, and goes on: no line runs twice, and none is left out.
//
//	hypertoken serve --data games &
//	go run ./examples/client --servers http://127.0.0.1:9464 --engine table examples/blackjack.jsonl
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"
)

// maxLine is the most bytes of a line of the file, more than a server takes by default.
const maxLine = 16 << 20

func main() {
	log.SetFlags(0)
	log.SetPrefix("client: ")
	servers := flag.String("servers", "http://127.0.0.1:9464", "the `addresses` of servers with the same games, with commas")
	engine := flag.String("engine", "table", "the engine's `name`")
	discover := flag.Bool("discover", false, "ask a server for the other nodes of its cluster")
	patience := flag.Duration("patience", 30*time.Second, "how long a line may take, with all its tries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	in := io.Reader(os.Stdin)
	if name := flag.Arg(0); name != "" {
		f, err := os.Open(name)
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		in = f
	}
	c := New(strings.Split(*servers, ","), *engine, os.Getenv("HYPERTOKEN_TOKEN"))
	c.Discover = *discover
	c.Lost = func(err error) { log.Print(err) }
	defer c.Close()
	if err := play(ctx, c, in, os.Stdout, *patience); err != nil {
		log.Fatal(err)
	}
}

// play sends the lines of a file, one after the other, and writes the answers.
func play(ctx context.Context, c *Client, in io.Reader, out io.Writer, patience time.Duration) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		var line Line
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		answer, err := c.sendWithin(ctx, patience, line)
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if _, err := fmt.Fprintf(out, "%s\n", answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (c *Client) sendWithin(ctx context.Context, patience time.Duration, line Line) ([]byte, error) {
	within, cancel := context.WithTimeoutCause(ctx, patience, errors.New("--patience is over"))
	defer cancel()
	return c.Send(within, line)
}
