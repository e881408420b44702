package register

import (
	"fmt"

	"github.com/futago/futago"
)

// Holders is the set of managers whose logs hold every acknowledged entry, as
// far as the third vote knows. It is never empty in a valid record.
type Holders uint8

// The members of the set, and the full set.
const (
	HolderA Holders = 1 << iota
	HolderB
	Both = HolderA | HolderB
)

// HolderOf returns the set of one manager, and the empty set for any other
// member.
func HolderOf(m futago.MemberID) Holders {
	switch m {
	case futago.MemberA:
		return HolderA
	case futago.MemberB:
		return HolderB
	default:
		return 0
	}
}

// Has reports whether m is in the set.
func (h Holders) Has(m futago.MemberID) bool {
	o := HolderOf(m)
	return o != 0 && h&o != 0
}

// Only reports whether m is the one member of the set.
func (h Holders) Only(m futago.MemberID) bool {
	o := HolderOf(m)
	return o != 0 && h == o
}

// Valid reports whether h is one of the three sets a record may have.
func (h Holders) Valid() bool { return h == HolderA || h == HolderB || h == Both }

// String returns "{a}", "{b}", "{a,b}" or "{}".
func (h Holders) String() string { return "{" + h.text() + "}" }

func (h Holders) text() string {
	switch h & Both {
	case HolderA:
		return "a"
	case HolderB:
		return "b"
	case Both:
		return "a,b"
	default:
		return ""
	}
}

// MarshalText implements [encoding.TextMarshaler]: "a", "b" or "a,b".
func (h Holders) MarshalText() ([]byte, error) {
	if !h.Valid() {
		return nil, fmt.Errorf("holders: %d is no set of managers", uint8(h))
	}
	return []byte(h.text()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *Holders) UnmarshalText(text []byte) error {
	switch string(text) {
	case "a":
		*h = HolderA
	case "b":
		*h = HolderB
	case "a,b":
		*h = Both
	default:
		return fmt.Errorf("holders: %q is none of a, b and a,b", text)
	}
	return nil
}
