package dedup

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/futago/futago"
)

const stateVersion = 1

// AppendState appends what Rebuild needs besides events: watermarks, and what
// is known about the spill. It is some 50 bytes, to be stored with every commit.
func (j *Judge) AppendState(b []byte) []byte {
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, uint64(j.limit))
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
	b = binary.AppendUvarint(b, j.reach.newest)
	if j.reach.newest != 0 {
		for m := range j.reach.pair {
			for _, h := range [...]hull{j.reach.pair[m], j.reach.near[m]} {
				b = binary.AppendVarint(b, h.lo)
				b = binary.AppendVarint(b, h.hi)
			}
		}
	}
	return b
}

// Rebuild makes a Judge that goes on where the one whose AppendState is given
// stopped. An empty state makes a new one.
//
// scanned yields the events with ids from the Horizon of that time on, by
// ascending id; events that never were judged (kind internal) are left out.
// spilled yields those in the spill by descending id; it is not read further
// than memory reaches. rules is called first, to make the rules that the groups
// refer to.
func Rebuild(limit int, state []byte, rules func(*Judge), scanned, spilled iter.Seq2[Group, error]) (*Judge, error) {
	j := New(limit)
	rules(j)
	before := j.limit
	if len(state) > 0 {
		var err error
		if before, err = j.readState(state); err != nil {
			return nil, err
		}
	}
	if err := j.load(before, scanned, spilled); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *Judge) load(before int, scanned, spilled iter.Seq2[Group, error]) error {
	var open []Group
	for g, err := range scanned {
		if err != nil {
			return err
		}
		if !j.expired(&g) {
			open = append(open, g)
		}
	}
	room := j.limit - len(open)
	var kept []Group
	// Which events the spill alone holds is known from the state, unless the
	// limit was another one.
	known := before == j.limit
	left := newReach()
	all := true
	for g, err := range spilled {
		if err != nil {
			return err
		}
		switch {
		case j.expired(&g):
			j.dead = append(j.dead, dead{g.Key, g.ID})
			continue
		case len(kept) < room:
			kept = append(kept, g)
			continue
		}
		left.extend(&g, &j.rules[g.Rule])
		if known {
			all = false
			break
		}
	}
	if all {
		j.reach = left
	}
	j.tighter, j.tidied = newReach(), 0
	for _, g := range slices.Backward(kept) {
		j.mem.add(&g, true, j.rules[g.Rule].window)
	}
	for i := range open {
		n := j.mem.add(&open[i], false, j.rules[open[i].Rule].window)
		if j.unsaved == none {
			j.unsaved = n
		}
	}
	return nil
}

func (j *Judge) readState(b []byte) (limit int, err error) {
	bad := false
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	varint := func() int64 {
		v, n := binary.Varint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	if b[0] != stateVersion {
		return 0, futago.Errorf(futago.CodeIncompatible, "the state of de-duplication is stored in form %d", b[0]).
			WithAction("install the version of Futago that wrote this database, or a newer one")
	}
	b = b[1:]
	limit = int(uvarint())
	j.next = uvarint()
	for m := range j.marks {
		n := uvarint()
		j.seen[m] = n&1 != 0
		for range min(n>>1, maxMarks) {
			j.marks[m] = append(j.marks[m], mark{uvarint(), varint()})
		}
	}
	j.reach = newReach()
	if j.reach.newest = uvarint(); j.reach.newest != 0 {
		for m := range j.reach.pair {
			j.reach.pair[m] = hull{varint(), varint()}
			j.reach.near[m] = hull{varint(), varint()}
		}
	}
	if bad || len(b) != 0 {
		return 0, futago.Errorf(futago.CodeCorrupt, "the stored state of de-duplication cannot be read").
			WithAction("remove this member's database; it is restored from the other manager")
	}
	return limit, nil
}
