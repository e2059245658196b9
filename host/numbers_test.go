package host

import (
	"testing"

	"hypertoken/internal/driver"
)

// What is an enumeration here and in package driver is converted by its number.
func TestNumbersOfTheDriver(t *testing.T) {
	for place, of := range map[Place]driver.Place{PlaceOut: driver.Out, Placing: driver.Placing,
		PlaceWorker: driver.OnWorker, PlaceInProcess: driver.InProcess} {
		if Place(of) != place {
			t.Errorf("the place %v of a driver is %v", place, Place(of))
		}
	}
	if len(Places()) != int(driver.InProcess)+1 {
		t.Errorf("there are %d places", len(Places()))
	}
	if BatchMode(driver.Atomic) != BatchAtomic || BatchMode(driver.Independent) != BatchIndependent {
		t.Error("a mode of batches has another number")
	}
}
