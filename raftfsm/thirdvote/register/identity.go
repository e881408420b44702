package register

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// Identity is the random name of one data directory of one manager. It tells a
// manager from the same manager with a lost disk. Zero means unknown.
type Identity [16]byte

// NewIdentity returns a random identity.
func NewIdentity() Identity { return Identity(random16()) }

// IsZero reports whether the identity is unknown.
func (i Identity) IsZero() bool { return i == Identity{} }

// String returns 32 hexadecimal digits.
func (i Identity) String() string { return hex.EncodeToString(i[:]) }

// MarshalText implements [encoding.TextMarshaler]: 32 hexadecimal digits, and
// nothing for the unknown identity.
func (i Identity) MarshalText() ([]byte, error) { return marshal16(i), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (i *Identity) UnmarshalText(text []byte) error {
	b, err := unmarshal16(text)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	*i = b
	return nil
}

// Nonce is a random number that makes every written record unique, so that two
// histories with equal version numbers can be told apart.
type Nonce [16]byte

// NewNonce returns a random nonce.
func NewNonce() Nonce { return Nonce(random16()) }

// IsZero reports whether the nonce was never set.
func (n Nonce) IsZero() bool { return n == Nonce{} }

// String returns 32 hexadecimal digits.
func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// MarshalText implements [encoding.TextMarshaler]: 32 hexadecimal digits, and
// nothing for the zero nonce.
func (n Nonce) MarshalText() ([]byte, error) { return marshal16(n), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (n *Nonce) UnmarshalText(text []byte) error {
	b, err := unmarshal16(text)
	if err != nil {
		return fmt.Errorf("nonce: %w", err)
	}
	*n = b
	return nil
}

func random16() [16]byte {
	var b [16]byte
	// rand.Read never returns an error: without random numbers the process ends.
	_, _ = rand.Read(b[:])
	return b
}

func marshal16(b [16]byte) []byte {
	if b == [16]byte{} {
		return []byte{}
	}
	return hex.AppendEncode(nil, b[:])
}

func unmarshal16(text []byte) ([16]byte, error) {
	var b [16]byte
	if len(text) == 0 {
		return b, nil
	}
	if len(text) != 2*len(b) {
		return b, fmt.Errorf("%d characters instead of %d", len(text), 2*len(b))
	}
	if _, err := hex.Decode(b[:], text); err != nil {
		return [16]byte{}, err
	}
	return b, nil
}
