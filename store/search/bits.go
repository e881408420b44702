package search

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// A segment covers 32768 consecutive event ids. Longer segments mean fewer
// places to look for a rare word, and more memory for the one being built.
const (
	segShift = 15
	segSize  = 1 << segShift
	segMask  = segSize - 1
)

// set is a set of events of one segment, by the low bits of their ids.
type set [segSize / 64]uint64

func (s *set) add(off uint16) { s[off/64] |= 1 << (off % 64) }

func (s *set) addRange(first, last int) {
	for i := first; i <= last; i++ {
		if i%64 == 0 && i+63 <= last {
			s[i/64] = ^uint64(0)
			i += 63
			continue
		}
		s.add(uint16(i))
	}
}

func (s *set) and(o *set) (empty bool) {
	any := uint64(0)
	for i := range s {
		s[i] &= o[i]
		any |= s[i]
	}
	return any == 0
}

func (s *set) count() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// ids lists the members as event ids of a segment.
func (s *set) ids(seg uint64, ascending bool) []uint64 {
	out := make([]uint64, 0, s.count())
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			out = append(out, seg<<segShift|uint64(i*64+bits.TrailingZeros64(w)))
		}
	}
	if !ascending {
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}

// Forms of a posting list: the differences between neighbours, or, where that
// is shorter, the set itself.
const (
	formDeltas = 0
	formSet    = 1
)

var errPostings = errors.New("damaged posting list")

// appendPostings encodes ascending offsets.
func appendPostings(b []byte, offs []uint16) []byte {
	start := len(b)
	b = append(b, formDeltas)
	prev := -1
	for _, o := range offs {
		b = binary.AppendUvarint(b, uint64(int(o)-prev))
		prev = int(o)
		if len(b)-start > segSize/8 {
			break
		}
	}
	if len(b)-start <= segSize/8 {
		return b
	}
	var s set
	for _, o := range offs {
		s.add(o)
	}
	b = append(b[:start], formSet)
	for _, w := range s {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// orPostings adds an encoded list to s.
func orPostings(s *set, b []byte) error {
	if len(b) == 0 {
		return errPostings
	}
	form, b := b[0], b[1:]
	switch {
	case form == formSet && len(b) == segSize/8:
		for i := range s {
			s[i] |= binary.LittleEndian.Uint64(b[8*i:])
		}
		return nil
	case form != formDeltas:
		return errPostings
	}
	at := -1
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 || d == 0 || d > segSize || at+int(d) >= segSize {
			return errPostings
		}
		at += int(d)
		s.add(uint16(at))
		b = b[n:]
	}
	return nil
}
