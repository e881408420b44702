package snmptrap

import (
	"errors"
	"fmt"
)

// The tags of SNMP (RFC 2578 section 7, RFC 3416 section 3, RFC 1157).
const (
	tagInteger     = 0x02
	tagBitString   = 0x03
	tagOctetString = 0x04
	tagNull        = 0x05
	tagOID         = 0x06
	tagSequence    = 0x30

	tagIPAddress = 0x40
	tagCounter32 = 0x41
	tagGauge32   = 0x42
	tagTimeTicks = 0x43
	tagOpaque    = 0x44
	tagNsap      = 0x45
	tagCounter64 = 0x46
	tagUInteger  = 0x47

	tagNoSuchObject   = 0x80
	tagNoSuchInstance = 0x81
	tagEndOfMibView   = 0x82

	tagGetRequest = 0xa0
	tagGetNext    = 0xa1
	tagResponse   = 0xa2
	tagSetRequest = 0xa3
	tagTrapV1     = 0xa4
	tagGetBulk    = 0xa5
	tagInform     = 0xa6
	tagTrapV2     = 0xa7
	tagReport     = 0xa8
)

// The ways in which bytes are no BER that SNMP allows (RFC 3417 section 8).
var (
	errShort      = errors.New("ends too early")
	errHighTag    = errors.New("multi-byte tag")
	errIndefinite = errors.New("indefinite length")
	errLength     = errors.New("length of more than four bytes")
	errInteger    = errors.New("integer of wrong length")
)

// cursor reads the elements between two positions of a buffer. It keeps the
// whole buffer, so that the position of a field in the message is known, and
// never reads outside of it. Nothing here recurses: SNMP nests to a fixed depth.
type cursor struct {
	buf      []byte
	pos, end int
}

func newCursor(b []byte) cursor { return cursor{buf: b, end: len(b)} }

func (c *cursor) empty() bool { return c.pos >= c.end }

// rest returns what has not been read.
func (c *cursor) rest() []byte { return c.buf[c.pos:c.end:c.end] }

// element reads one element and returns its tag and a cursor over its content.
func (c *cursor) element() (tag byte, body cursor, err error) {
	p := c.pos
	if c.end-p < 2 {
		return 0, cursor{}, errShort
	}
	tag = c.buf[p]
	if tag&0x1f == 0x1f {
		return 0, cursor{}, errHighTag
	}
	n := int(c.buf[p+1])
	p += 2
	if n >= 0x80 {
		octets := n & 0x7f
		switch {
		case octets == 0:
			return 0, cursor{}, errIndefinite
		case octets > 4:
			return 0, cursor{}, errLength
		case c.end-p < octets:
			return 0, cursor{}, errShort
		}
		n = 0
		for _, b := range c.buf[p : p+octets] {
			n = n<<8 | int(b)
		}
		p += octets
	}
	if n < 0 || n > c.end-p {
		return 0, cursor{}, errShort
	}
	c.pos = p + n
	return tag, cursor{buf: c.buf, pos: p, end: p + n}, nil
}

// expect reads one element that must have the tag.
func (c *cursor) expect(tag byte) (cursor, error) {
	got, body, err := c.element()
	if err != nil {
		return cursor{}, err
	}
	if got != tag {
		return cursor{}, fmt.Errorf("tag 0x%02x where 0x%02x belongs", got, tag)
	}
	return body, nil
}

// octets reads an OCTET STRING. The result is part of the buffer.
func (c *cursor) octets() ([]byte, error) {
	body, err := c.expect(tagOctetString)
	return body.rest(), err
}

// integer reads an INTEGER of up to eight bytes.
func (c *cursor) integer() (int64, error) {
	body, err := c.expect(tagInteger)
	if err != nil {
		return 0, err
	}
	return signed(body.rest())
}

// signed is the two's complement number in b.
func signed(b []byte) (int64, error) {
	if len(b) == 0 || len(b) > 8 {
		return 0, errInteger
	}
	v := int64(int8(b[0]))
	for _, x := range b[1:] {
		v = v<<8 | int64(x)
	}
	return v, nil
}

// unsigned is the number in b of at most size bytes. Some devices leave out the
// leading zero byte that keeps a large number from being negative; as these
// types have no negative values, that does no harm.
func unsigned(b []byte, size int) (uint64, error) {
	if len(b) > size && b[0] == 0 {
		b = b[1:]
	}
	if len(b) > size {
		return 0, errInteger
	}
	var v uint64
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v, nil
}

// appendHeader writes a tag and the length of its content.
func appendHeader(dst []byte, tag byte, n int) []byte {
	dst = append(dst, tag)
	switch {
	case n < 0x80:
		return append(dst, byte(n))
	case n < 0x100:
		return append(dst, 0x81, byte(n))
	case n < 0x10000:
		return append(dst, 0x82, byte(n>>8), byte(n))
	default:
		return append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
}

// appendElement writes an element with the content.
func appendElement(dst []byte, tag byte, content []byte) []byte {
	return append(appendHeader(dst, tag, len(content)), content...)
}

// appendInteger writes v in the fewest bytes.
func appendInteger(dst []byte, tag byte, v int64) []byte {
	n := 1
	for x := v; x > 127 || x < -128; x >>= 8 {
		n++
	}
	dst = append(dst, tag, byte(n))
	for n--; n >= 0; n-- {
		dst = append(dst, byte(v>>(8*n)))
	}
	return dst
}
