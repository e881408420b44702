package snmptrap

import (
	"errors"
	"math"
	"strconv"
)

// maxArcs is the most sub-identifiers of a name (RFC 2578 section 3.5).
const maxArcs = 128

var errOID = errors.New("object identifier is not valid")

// appendOID writes the dotted form of an encoded object identifier. It takes
// time in proportion to b and refuses names that RFC 2578 does not allow. An
// empty one, which some agents send for zeroDotZero, is "0.0".
func appendOID(dst, b []byte) ([]byte, error) {
	if len(b) == 0 {
		return append(dst, "0.0"...), nil
	}
	start := len(dst)
	var v uint64
	arcs := 0
	for i, x := range b {
		v = v<<7 | uint64(x&0x7f)
		if x&0x80 != 0 {
			if v > math.MaxUint32>>7+1 || i == len(b)-1 {
				return dst[:start], errOID
			}
			continue
		}
		if arcs == 0 {
			first := min(v/40, 2)
			dst = strconv.AppendUint(dst, first, 10)
			v -= first * 40
			arcs++
		}
		if arcs == maxArcs || v > math.MaxUint32 {
			return dst[:start], errOID
		}
		dst = append(dst, '.')
		dst = strconv.AppendUint(dst, v, 10)
		arcs++
		v = 0
	}
	return dst, nil
}

func oidString(b []byte) (string, error) {
	var buf [128]byte
	s, err := appendOID(buf[:0], b)
	return string(s), err
}

// encodeOID is the inverse of appendOID, for the fixed names of this package;
// it expects at least two arcs and a first arc of 0 or 1.
func encodeOID(arcs ...uint32) []byte {
	b := []byte{byte(arcs[0]*40 + arcs[1])}
	for _, a := range arcs[2:] {
		for shift := 28; shift > 0; shift -= 7 {
			if a>>shift != 0 {
				b = append(b, byte(a>>shift)|0x80)
			}
		}
		b = append(b, byte(a&0x7f))
	}
	return b
}
