package futago

import (
	"crypto/sha256"
	"net/netip"
)

// NewKey makes the identity of a trap from its kind, its sender and the parts
// of the message that make it "the same". Each part is framed, so that no two
// lists of parts meet. The address is unmapped and its zone is left out.
func NewKey(k Kind, source netip.Addr, parts ...[]byte) Key {
	buf := make([]byte, 0, 256)
	a := source.Unmap().WithZone("").As16()
	buf = append(buf, byte(k))
	buf = append(buf, a[:]...)
	for _, p := range parts {
		n := len(p)
		buf = append(buf, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		buf = append(buf, p...)
	}
	sum := sha256.Sum256(buf)
	return Key(sum[:16])
}
