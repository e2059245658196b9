//go:build race

package require

const isRaced = true
