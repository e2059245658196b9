// Command catch is the test of the tests. For each breach in internal/sabotage/breaches it builds
// the tests that have to notice with the breach applied, runs them, and fails if one passes. `make
// sabotage` runs it. It also writes the breaches: see breaches/README.md. It runs in the root of
// the module.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"

	"hypertoken/internal/sabotage"
)

func main() {
	only := flag.String("run", "", "only the breaches whose names match the `regexp`")
	list := flag.Bool("list", false, "list the breaches, and run nothing")
	record := flag.String("record", "", "write the breach `NAME` from the changes of the working tree that\n"+
		"are not staged, and take them back; of the files behind NAME only, if there are any")
	follow := flag.Bool("follow", false, "find the files that the code of breaches has moved to, and write\n"+
		"them into the breaches")
	flag.Parse()
	var err error
	switch {
	case *record != "":
		err = recordBreach(".", *record, flag.Args())
	case flag.NArg() > 0:
		err = fmt.Errorf("%q: only -record takes arguments", flag.Arg(0))
	case *follow:
		err = followCode(".")
	default:
		err = catch(*only, *list)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sabotage:", err)
		os.Exit(1)
	}
}

func catch(only string, list bool) error {
	matches, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	breaches, err := sabotage.Load(".")
	if err != nil {
		return err
	}
	breaches = slices.DeleteFunc(breaches, func(b *sabotage.Breach) bool { return !matches.MatchString(b.Name) })
	if len(breaches) == 0 {
		return errors.New("-run: there is no such breach")
	}
	if !list {
		return runAll(breaches)
	}
	guarantee := 0
	for _, b := range breaches {
		if guarantee != b.Guarantee {
			guarantee = b.Guarantee
			fmt.Printf("Guarantee %d: %s\n", guarantee, sabotage.Guarantees[guarantee])
		}
		fmt.Printf("  %-22s %s\n", b.Name, b.What)
	}
	return nil
}
