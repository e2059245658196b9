package host

import "fmt"

// Place says where an engine is.
type Place uint8

const (
	// PlaceOut: the engine has no instance. Its next action places it.
	PlaceOut Place = iota
	// Placing: its journal is on the way to an instance.
	Placing
	// PlaceWorker: it runs on a worker.
	PlaceWorker
	// PlaceInProcess: it runs in this process.
	PlaceInProcess
)

var placeNames = [...]string{"out", "placing", "worker", "in_process"}

// Places returns all places.
func Places() []Place { return []Place{PlaceOut, Placing, PlaceWorker, PlaceInProcess} }

// String returns "out", "placing", "worker" or "in_process".
func (p Place) String() string {
	if int(p) < len(placeNames) {
		return placeNames[p]
	}
	return fmt.Sprintf("Place(%d)", uint8(p))
}

// MarshalText returns the place's name.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the name of a place.
func (p *Place) UnmarshalText(text []byte) error {
	for k, name := range placeNames {
		if name == string(text) {
			*p = Place(k)
			return nil
		}
	}
	return badInput("a place %q: want out, placing, worker or in_process", text)
}
