package store

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store/internal/litedb"
)

// EventRow is an event as it is stored. Times are nanoseconds since 1970.
type EventRow struct {
	ID       uint64
	At       int64
	Kind     futago.Kind
	Severity futago.Severity
	// Window says that the event was made under a rule of window mode, so
	// that it stands for one occurrence however many copies came.
	Window bool
	// Rule is the number of the rule that the event was made under, see
	// [Tx.PutRule].
	Rule   uint32
	Source netip.Addr
	Key    futago.Key
	// Reason, Count, First and Last are the mutable part, see Receipts.
	Reason futago.Reason
	Count  [futago.Slots]uint64
	First  [futago.Slots]int64
	Last   [futago.Slots]int64
	// Trap is the output of command.AppendTrap.
	Trap []byte
}

// Receipts is the mutable part of an event: what each manager received. It
// replaces what was there.
type Receipts struct {
	ID     uint64
	Reason futago.Reason
	Count  [futago.Slots]uint64
	First  [futago.Slots]int64
	Last   [futago.Slots]int64
}

// set puts r into the row.
func (e *EventRow) set(r *Receipts) {
	e.Reason, e.Count, e.First, e.Last = r.Reason, r.Count, r.First, r.Last
}

// receipts takes the mutable part out of the row.
func (e *EventRow) receipts() Receipts {
	return Receipts{ID: e.ID, Reason: e.Reason, Count: e.Count, First: e.First, Last: e.Last}
}

// Event assembles the domain form of a row that was read with its trap.
func (e *EventRow) Event() (futago.Event, error) {
	trap, err := command.DecodeTrap(e.Trap)
	if err != nil {
		return futago.Event{}, futago.Errorf(futago.CodeCorrupt, "event %d cannot be decoded", e.ID).Wrap(err)
	}
	ev := futago.Event{
		ID: e.ID, At: time.Unix(0, e.At).UTC(), Reason: e.Reason, Key: e.Key, Trap: trap,
		Receipts: make([]futago.Receipt, 0, futago.Slots),
	}
	for slot := range futago.Slots {
		n := e.Count[slot]
		ev.Count = max(ev.Count, n)
		ev.Copies += n
		if n > 0 {
			ev.Receipts = append(ev.Receipts, futago.Receipt{
				Member: futago.MemberOfSlot(slot), Count: n,
				First: time.Unix(0, e.First[slot]).UTC(), Last: time.Unix(0, e.Last[slot]).UTC(),
			})
		}
	}
	if e.Window {
		ev.Count = 1
	}
	return ev, nil
}

// stateLen is the length of column state: reason, three numbers per slot, and
// a CRC-32C of these and of the id. It is fixed, so that an update overwrites
// the row in place and never moves its neighbours.
const stateLen = 1 + futago.Slots*24 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendState(b []byte, r *Receipts) []byte {
	start := len(b)
	b = append(b, byte(r.Reason))
	for i := range futago.Slots {
		b = binary.LittleEndian.AppendUint64(b, r.Count[i])
		b = binary.LittleEndian.AppendUint64(b, uint64(r.First[i]))
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Last[i]))
	}
	return binary.LittleEndian.AppendUint32(b, stateSum(r.ID, b[start:]))
}

func stateSum(id uint64, body []byte) uint32 {
	var idb [8]byte
	binary.LittleEndian.PutUint64(idb[:], id)
	return crc32.Update(crc32.Checksum(idb[:], castagnoli), castagnoli, body)
}

func parseState(id uint64, b []byte, r *Receipts) bool {
	if len(b) != stateLen {
		return false
	}
	body := b[:stateLen-4]
	if stateSum(id, body) != binary.LittleEndian.Uint32(b[stateLen-4:]) {
		return false
	}
	r.ID, r.Reason = id, futago.Reason(body[0])
	for i := range futago.Slots {
		p := body[1+24*i:]
		r.Count[i] = binary.LittleEndian.Uint64(p)
		r.First[i] = int64(binary.LittleEndian.Uint64(p[8:]))
		r.Last[i] = int64(binary.LittleEndian.Uint64(p[16:]))
	}
	return true
}

// rule is the column of this name.
func (e *EventRow) rule() int64 {
	r := int64(e.Rule) << 1
	if e.Window {
		r |= 1
	}
	return r
}

// headSum is the CRC-32C of the immutable columns before sum.
func headSum(e *EventRow) uint32 {
	var b [72]byte
	n := binary.PutUvarint(b[:], e.ID)
	n += binary.PutVarint(b[n:], e.At)
	b[n], b[n+1] = byte(e.Kind), byte(e.Severity)
	n += 2
	n += binary.PutVarint(b[n:], e.rule())
	n += copy(b[n:], e.Key[:])
	n += len(appendAddr(b[n:n], e.Source))
	return crc32.Checksum(b[:n], castagnoli)
}

// appendAddr appends the stored form of an address: 4 or 16 bytes, or one zero
// byte for the invalid address that internal events may have.
func appendAddr(b []byte, a netip.Addr) []byte {
	switch a = a.Unmap(); {
	case a.Is4():
		v := a.As4()
		return append(b, v[:]...)
	case a.Is6():
		v := a.As16()
		return append(b, v[:]...)
	default:
		return append(b, 0)
	}
}

func parseAddr(b []byte) (netip.Addr, bool) {
	if len(b) == 1 && b[0] == 0 {
		return netip.Addr{}, true
	}
	return netip.AddrFromSlice(b)
}

func trapSum(trap []byte) uint32 { return crc32.Checksum(trap, castagnoli) }

// Columns of events in the order that parseRow expects.
const (
	headColumns = "id, at, kind, severity, rule, source, key, sum, state"
	rowColumns  = headColumns + ", trap"
)

// parseRow reads and verifies a row of headColumns or rowColumns.
func parseRow(path string, r litedb.Row, e *EventRow) error {
	*e = EventRow{
		ID: uint64(r.Int(0)), At: r.Int(1), Kind: futago.Kind(r.Int(2)),
		Severity: futago.Severity(r.Int(3)), Window: r.Int(4)&1 != 0, Rule: uint32(r.Int(4) >> 1),
	}
	damaged := func() error {
		return litedb.Corrupt(path, "event %d in %s fails its checksum", e.ID, path)
	}
	var ok bool
	if e.Source, ok = parseAddr(r.Bytes(5)); !ok || len(r.Bytes(6)) != len(e.Key) {
		return damaged()
	}
	e.Key = futago.Key(r.Bytes(6))
	var rc Receipts
	sum := uint64(r.Int(7))
	if headSum(e) != uint32(sum>>32) || !parseState(e.ID, r.Bytes(8), &rc) {
		return damaged()
	}
	e.set(&rc)
	if len(r) > 9 {
		e.Trap = r.Bytes(9)
		if trapSum(e.Trap) != uint32(sum) {
			return damaged()
		}
	}
	return nil
}
