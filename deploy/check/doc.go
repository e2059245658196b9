// Package check holds what deploy/ ships for clusters against the types of Kubernetes, the specification
// of Compose, the NATS server, and the program itself. It has tests only. It is a module of its own, so
// that nobody else needs what these come from.
package check
