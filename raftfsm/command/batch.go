package command

import (
	"encoding/binary"
	"net/netip"

	"github.com/futago/futago"
)

// Payload of a TrapBatch, version 1. Numbers are varints (zig-zag where they
// can be negative) unless a width is given.
//
//	member (length, text), spool (16 bytes), first, watermark, proposed-at
//	number of bodies; each: key (16 bytes), kind (1), severity (1),
//	    length of the address (1: 0, 4 or 16), address, length of the trap, trap
//	number of copies; each: body, arrival minus that of the copy before
//	    (of the first: minus proposed-at)
const (
	minBody = 16 + 1 + 1 + 1 + 1
	minCopy = 2
)

func (t *TrapBatch) sizeHint() int {
	n := 128 + len(t.Bodies)*(minBody+20) + len(t.Copies)*8
	for i := range t.Bodies {
		n += len(t.Bodies[i].Trap)
	}
	return n
}

func (t *TrapBatch) append(b []byte) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, uint64(len(t.Member)))
	b = append(b, t.Member...)
	b = append(b, t.Spool[:]...)
	b = binary.AppendUvarint(b, t.First)
	b = binary.AppendVarint(b, t.Watermark)
	b = binary.AppendVarint(b, t.ProposedAt)
	b = binary.AppendUvarint(b, uint64(len(t.Bodies)))
	for i := range t.Bodies {
		p := &t.Bodies[i]
		b = append(b, p.Key[:]...)
		b = append(b, byte(p.Kind), byte(p.Severity))
		b = appendAddr(b, p.Source)
		b = binary.AppendUvarint(b, uint64(len(p.Trap)))
		b = append(b, p.Trap...)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Copies)))
	last := t.ProposedAt
	for _, c := range t.Copies {
		b = binary.AppendUvarint(b, uint64(c.Body))
		b = binary.AppendVarint(b, c.At-last) // wraps, and wraps back
		last = c.At
	}
	return b, nil
}

// check refuses what apply could make nothing of.
func (t *TrapBatch) check() error {
	invalid := func(format string, args ...any) error {
		return futago.Errorf(futago.CodeInvalid, "trap batch: "+format, args...)
	}
	if _, ok := t.Member.Slot(); !ok {
		return invalid("%q is no manager", t.Member)
	}
	if t.Spool.IsZero() {
		return invalid("it names no spool")
	}
	if t.First == 0 || t.First+uint64(len(t.Copies)) < t.First {
		return invalid("it starts at sequence %d", t.First)
	}
	for i := range t.Bodies {
		p := &t.Bodies[i]
		switch {
		case p.Source.Zone() != "" || p.Source.Is4In6():
			return invalid("body %d has the address %s", i, p.Source)
		case len(p.Trap) > MaxTrapEncoded:
			return invalid("body %d has %d bytes", i, len(p.Trap))
		case p.Kind != futago.KindSyslog && p.Kind != futago.KindSNMPTrap && p.Kind != futago.KindCustomTrap:
			return invalid("body %d has kind %v", i, p.Kind)
		case p.Severity > futago.SeverityDebug:
			return invalid("body %d has severity %d", i, uint8(p.Severity))
		}
	}
	for i, c := range t.Copies {
		if int64(c.Body) >= int64(len(t.Bodies)) {
			return invalid("copy %d is of body %d of %d", i, c.Body, len(t.Bodies))
		}
	}
	return nil
}

func decodeBatch(payload []byte) (*TrapBatch, error) {
	r := &reader{b: payload}
	t := &TrapBatch{}
	t.Member = futago.MemberID(r.bytes(r.uvarint()))
	copy(t.Spool[:], r.bytes(16))
	t.First = r.uvarint()
	t.Watermark = r.varint()
	t.ProposedAt = r.varint()
	if n := r.count(minBody); n > 0 {
		t.Bodies = make([]Body, n)
	}
	for i := range t.Bodies {
		p := &t.Bodies[i]
		copy(p.Key[:], r.bytes(16))
		p.Kind = futago.Kind(r.byte())
		p.Severity = futago.Severity(r.byte())
		p.Source = r.addr()
		p.Trap = r.bytes(r.uvarint())
	}
	if n := r.count(minCopy); n > 0 {
		t.Copies = make([]Copy, n)
	}
	last := t.ProposedAt
	for i := range t.Copies {
		body := r.uvarint()
		if body > 1<<32-1 {
			r.bad = true
		}
		last += r.varint()
		t.Copies[i] = Copy{Body: uint32(body), At: last}
	}
	if r.bad || r.left() != 0 {
		return nil, corrupt("a TrapBatch of the log cannot be read (near byte %d of %d)", r.pos, len(payload))
	}
	if err := t.check(); err != nil {
		return nil, corrupt("a TrapBatch of the log makes no sense").Wrap(err)
	}
	return t, nil
}

// appendAddr writes the length and the bytes of an address; an invalid one has
// no bytes. A zone is left to the caller.
func appendAddr(b []byte, a netip.Addr) []byte {
	switch {
	case a.Is4():
		x := a.As4()
		return append(append(b, 4), x[:]...)
	case a.IsValid():
		x := a.As16()
		return append(append(b, 16), x[:]...)
	default:
		return append(b, 0)
	}
}

func (r *reader) addr() netip.Addr {
	switch n := r.byte(); n {
	case 0:
		return netip.Addr{}
	case 4:
		if p := r.bytes(4); p != nil {
			return netip.AddrFrom4([4]byte(p))
		}
	case 16:
		if p := r.bytes(16); p != nil {
			return netip.AddrFrom16([16]byte(p))
		}
	default:
		r.bad = true
	}
	return netip.Addr{}
}
