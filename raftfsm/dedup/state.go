package dedup

import (
	"encoding/binary"
	"iter"

	"github.com/futago/futago"
)

const stateVersion = 1

// AppendState appends what Rebuild needs besides events and the directory: the
// watermarks. It is some 30 bytes, to be stored with every commit.
func (j *Judge) AppendState(b []byte) []byte {
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, j.next)
	for m := range j.marks {
		n := uint64(len(j.marks[m])) << 1
		if j.seen[m] {
			n |= 1
		}
		b = binary.AppendUvarint(b, n)
		for _, x := range j.marks[m] {
			b = binary.AppendUvarint(b, x.id)
			b = binary.AppendVarint(b, x.at)
		}
	}
	return b
}

// Directory returns the directory of the spill when it changed since the last
// call, to be stored with the next commit.
func (j *Judge) Directory() (b []byte, changed bool) {
	if !j.disk.changed {
		return nil, false
	}
	j.disk.changed = false
	return j.disk.append(nil), true
}

// Rebuild makes a Judge that goes on where the one stopped whose AppendState
// and last Directory are given. Empty ones make a new Judge.
//
// scanned yields the events with ids from the Horizon of that time on, by
// ascending id; events that never were judged (kind internal) are left out.
// rules is called first, to make the rules that the groups refer to.
func Rebuild(limit int, state, directory []byte, rules func(*Judge), scanned iter.Seq2[Group, error]) (*Judge, error) {
	j := New(limit)
	rules(j)
	if len(state) > 0 {
		if err := j.readState(state); err != nil {
			return nil, err
		}
	}
	if len(directory) > 0 {
		if err := j.disk.read(directory); err != nil {
			return nil, err
		}
	}
	for g, err := range scanned {
		if err != nil {
			return nil, err
		}
		if !j.expired(&g) {
			j.mem.add(&g, &j.rules[g.Rule])
		}
	}
	return j, nil
}

// cursor reads varints; after a fault bad is set and all else is zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

// begin checks the version in front.
func (c *cursor) begin(b []byte, version byte) error {
	if b[0] != version {
		return futago.Errorf(futago.CodeIncompatible, "the state of de-duplication is stored in form %d", b[0]).
			WithAction("install the version of Futago that wrote this database, or a newer one")
	}
	c.b = b[1:]
	return nil
}

// end reports a fault, or more than was expected.
func (c *cursor) end() error {
	if !c.bad && len(c.b) == 0 {
		return nil
	}
	return futago.Errorf(futago.CodeCorrupt, "the stored state of de-duplication cannot be read").
		WithAction("remove this member's database; it is restored from the other manager")
}

func (j *Judge) readState(b []byte) error {
	var c cursor
	if err := c.begin(b, stateVersion); err != nil {
		return err
	}
	j.next = c.uvarint()
	for m := range j.marks {
		n := c.uvarint()
		j.seen[m] = n&1 != 0
		for range min(n>>1, maxMarks) {
			j.marks[m] = append(j.marks[m], mark{c.uvarint(), c.varint()})
		}
	}
	return c.end()
}
