package host_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"hypertoken/host"
)

type (
	anyone interface{ any }
	// embeddedInterface may contain itself by an embedded field that is no struct.
	embeddedInterface struct{ anyone }

	// Base is a part of every Node, and may lead to another one: a tree with its parents.
	Base struct {
		Parent *Node `json:"parent,omitempty"`
	}
	Node struct {
		Base
		Name string `json:"name"`
	}

	panicsAsText    struct{}
	panicsAsPack    struct{}
	ignoresItsLimit struct{ levels int }
)

func (panicsAsText) MarshalText() ([]byte, error) { panic("no text today") }

func (panicsAsPack) EncodeMsgpack(*msgpack.Encoder) error {
	panic(errors.New("no bytes either"))
}

// EncodeMsgpack writes as deep as it was told, whatever the encoder says.
func (i ignoresItsLimit) EncodeMsgpack(enc *msgpack.Encoder) error {
	for range i.levels {
		_ = enc.EncodeArrayLen(1)
	}
	_ = enc.EncodeString(strings.Repeat("x", 1<<20))
	_ = enc.EncodeNil()
	return nil
}

// An embedded field that is no struct is a level, so what contains itself by it has no end.
func TestAnEmbeddedInterfaceThatContainsItself(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", nil)
	c := &embeddedInterface{}
	c.anyone = c
	if _, err := e.Dispatch(t.Context(),
		"debug:log", c); !errors.Is(err, host.ErrBadInput) || !strings.Contains(err.Error(), "MaxDepth") {
		t.Errorf("got %v", err)
	}
}

// A struct may be a part of another one that it leads to. Which of them is encoded first makes no difference.
func TestAnEmbeddedStructMayLeadBack(t *testing.T) {
	h := newHost(t, host.Options{})
	e := open(t, h, "e", nil)
	node := Node{Base: Base{Parent: &Node{Name: "root"}}, Name: "leaf"}
	for _, payload := range []any{node.Base, &node, node} {
		if _, err := e.Dispatch(t.Context(), "debug:log", payload); err != nil {
			t.Errorf("%T: %v", payload, err)
		}
	}
}

// What the code of a payload does wrong is an error of that call: a panic, and an error of the encoder that it ignores.
func TestTheCodeOfAPayload(t *testing.T) {
	h := newHost(t, host.Options{MaxPayload: 1 << 19})
	e := open(t, h, "e", nil)
	for name, c := range map[string]struct {
		payload any
		want    error
		says    string
	}{
		"MarshalText panics":    {dict{"v": panicsAsText{}}, host.ErrBadInput, "panicked: no text today"},
		"EncodeMsgpack panics":  {dict{"v": panicsAsPack{}}, host.ErrBadInput, "panicked: no bytes either"},
		"its depth is ignored":  {dict{"v": ignoresItsLimit{100}}, host.ErrBadInput, "MaxDepth is 64"},
		"its length is ignored": {dict{"v": ignoresItsLimit{0}}, host.ErrPayloadTooLarge, "MaxPayload"},
	} {
		if _, err := e.Dispatch(t.Context(),
			"debug:log", c.payload); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := e.Dispatch(t.Context(), "debug:log", dict{"v": 1}); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}
