package marker

import (
	"reflect"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/journal"
)

func TestMarkersAreReadAsTheyWere(t *testing.T) {
	for _, m := range []Marker{
		{Kind: Revert, To: 3, Digest: 1 << 63, Current: 2, Redo: []uint64{9, 5}},
		{Kind: Upgrade, FromCore: "ab", DigestBefore: 7, Digest: 8, Current: 10},
		{Kind: Fork, FromEngine: "a\xff", FromSequence: 4},
	} {
		got, err := Read(&journal.Base{Sequence: 10, Details: m.Encode()})
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, %v, want %+v", got, err, m)
		}
	}
}

// A journal that a newer version has written, which this one can't go on with, is told.
func TestWhatAJournalNeeds(t *testing.T) {
	encode := func(v any) []byte {
		b, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	m := Marker{Kind: Revert, To: 3}
	for name, c := range map[string]struct {
		details []byte
		fails   bool
	}{
		"nothing":        {nil, false},
		"a marker":       {m.Encode(), false},
		"no details":     {[]byte("of somebody"), false},
		"an empty list":  {encode(map[string]any{"needs": []string{}}), false},
		"schedules":      {encode(map[string]any{"later": 1, "needs": []string{"schedules"}}), true},
		"beside a state": {encode(map[string]any{"kind": Revert, "digest": 7, "needs": []string{"x", "y"}}), true},
	} {
		if err := CheckNeeds(&journal.Base{Details: c.details}); (err != nil) != c.fails {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlySoMuchIsThereToRedo(t *testing.T) {
	redo := make([]uint64, MostRedo+1)
	for k := range redo {
		redo[k] = 1<<53 + uint64(k)
	}
	for n, want := range map[int]uint64{MostRedo: redo[0], MostRedo + 1: redo[1]} {
		m := Marker{Kind: Revert, Redo: redo[:n]}
		details := m.Encode()
		got, err := Read(&journal.Base{Sequence: 1 << 54, Details: details})
		if err != nil || len(got.Redo) != MostRedo || got.Redo[0] != want || len(details) > journal.MaxDetails {
			t.Errorf("%d steps: %d are left, the first is %d, %d bytes, %v", n, len(got.Redo), got.Redo[0],
				len(details), err)
		}
	}
}

func TestWhatIsNoMarkerIsRefused(t *testing.T) {
	for name, details := range map[string][]byte{
		"nothing":             nil,
		"another value":       {0xc0},
		"no kind":             (&Marker{}).Encode(),
		"a later step":        (&Marker{Kind: Revert, Current: 11}).Encode(),
		"a later state":       (&Marker{Kind: Revert, To: 11}).Encode(),
		"a later redo":        (&Marker{Kind: Revert, Redo: []uint64{11}}).Encode(),
		"longer than allowed": append((&Marker{Kind: Revert}).Encode(), make([]byte, journal.MaxDetails)...),
	} {
		if m, err := Read(&journal.Base{Sequence: 10, Details: details}); err == nil {
			t.Errorf("%s: got %+v", name, m)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(uint64(10), (&Marker{Kind: Revert, To: 3, Current: 2, Redo: []uint64{9, 5}}).Encode())
	f.Fuzz(func(t *testing.T, sequence uint64, details []byte) {
		m, err := Read(&journal.Base{Sequence: sequence, Details: details})
		if err != nil {
			return
		}
		if _, err := Read(&journal.Base{Sequence: sequence, Details: m.Encode()}); err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	})
}
