package command

import "encoding/binary"

// reader walks over coded bytes. After the first fault every read yields zero
// and ok is false, so that callers check once at the end.
type reader struct {
	b   []byte
	pos int
	bad bool
}

func (r *reader) left() int { return len(r.b) - r.pos }

func (r *reader) byte() byte {
	if r.bad || r.pos >= len(r.b) {
		r.bad = true
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

func (r *reader) uvarint() uint64 {
	if r.bad {
		return 0
	}
	// Most values are below 128.
	if r.pos < len(r.b) && r.b[r.pos] < 0x80 {
		v := uint64(r.b[r.pos])
		r.pos++
		return v
	}
	v, n := binary.Uvarint(r.b[r.pos:])
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.pos += n
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// count reads a number of things that take at least size bytes each, so that a
// forged one cannot make the caller allocate more than the input's own size.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if r.bad || n > uint64(r.left()/size) {
		r.bad = true
		return 0
	}
	return int(n)
}

// bytes returns the next n bytes; they refer to the input.
func (r *reader) bytes(n uint64) []byte {
	if r.bad || n > uint64(r.left()) {
		r.bad = true
		return nil
	}
	p := r.b[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return p
}
