// Package jsonl is the form in which programs that are not Go talk to an engine: JSON Lines, each
// answered by one line. `hypertoken run --help` describes it.
package jsonl
