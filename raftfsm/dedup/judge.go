package dedup

import (
	"slices"

	"github.com/futago/futago"
)

// Judge decides on one copy and counts it. A new event gets the id next. The
// rule is that of the present settings and is given to a new event; an open
// event is judged by the rule that it was made under.
//
//  1. Paired: the oldest open event (exact) for which this manager has counted
//     fewer copies than the other, and which the other's copies reached within
//     PairWithin of this one.
//  2. Window: the newest open event (window) made less than Window before this
//     copy, or else less than Window after it.
//  3. Repeat: the newest open event (exact) of which this manager's first copy
//     arrived less than Fold before or after this one.
//  4. First: none of them; a new event.
func (j *Judge) Judge(c Copy, rule RuleID, next uint64, s Spill) (Verdict, error) {
	v, known, err := j.Match(c, next, s)
	if known || err != nil {
		return v, err
	}
	return j.create(c, rule, next, s)
}

// Match is Judge for a copy that must not make a new event: where Judge would
// make one, Match counts nothing and returns false.
func (j *Judge) Match(c Copy, next uint64, s Spill) (Verdict, bool, error) {
	j.next = max(j.next, next)
	spilled, err := j.disk.find(j, c, s)
	if err != nil {
		return Verdict{}, false, err
	}
	for i := range spilled {
		if j.reaches(spilled[i].Group, c) {
			return j.countSpilled(spilled[i], c, futago.ReasonPaired), true, nil
		}
	}
	l := j.mem.find(c.Key)
	if l != nil {
		if i := j.pair(l, c); i != none {
			return j.count(i, c, futago.ReasonPaired), true, nil
		}
		// Clearing away the expired may have taken the list with it.
		l = j.mem.find(c.Key)
	}
	n := j.near(l, spilled, c)
	switch {
	case n.inMemory != none:
		return j.count(n.inMemory, c, n.reason), true, nil
	case n.inSpill >= 0:
		return j.countSpilled(spilled[n.inSpill], c, n.reason), true, nil
	default:
		return Verdict{}, false, nil
	}
}

// reaches reports whether the copy arrived within PairWithin of the other
// manager's copies of the event.
func (j *Judge) reaches(g *Group, c Copy) bool {
	r := &j.rules[g.Rule]
	o := 1 - c.Slot
	if r.window || !g.lacks(c.Slot) {
		return false
	}
	switch {
	case c.At < g.First[o]:
		return apart(c.At, g.First[o]) <= uint64(r.span)
	case c.At > g.Last[o]:
		return apart(c.At, g.Last[o]) <= uint64(r.span)
	default:
		return true
	}
}

// pair looks for rule 1 in memory.
func (j *Judge) pair(l *list, c Copy) uint32 {
	first := true
	for i := l.lacking[c.Slot]; i != none; {
		g := j.mem.group(i)
		here, newer := i, g.newer
		i = newer
		if !g.lacks(c.Slot) {
			continue
		}
		if j.expired(&g.Group) {
			j.free(here)
			continue
		}
		if first {
			l.lacking[c.Slot] = here
			first = false
		}
		if j.reaches(&g.Group, c) {
			return here
		}
	}
	if first {
		l.lacking[c.Slot] = none
	}
	return none
}

// nearby is what rules 2 and 3 found.
type nearby struct {
	inMemory uint32
	inSpill  int
	reason   futago.Reason
}

// near looks for rules 2 and 3, from the newest event to the oldest; those in
// the spill are older than any in memory.
func (j *Judge) near(l *list, spilled []found, c Copy) nearby {
	nothing := nearby{inMemory: none, inSpill: -1}
	later, repeat := nothing, nothing
	// look returns true when nothing older can be chosen instead.
	look := func(g *Group, at nearby) bool {
		r := &j.rules[g.Rule]
		switch {
		case r.window && apart(c.At, g.At) < uint64(r.span):
			at.reason = futago.ReasonWindow
			if g.At <= c.At {
				later = at
				return true
			}
			if later == nothing {
				later = at
			}
		case !r.window && repeat == nothing && apart(c.At, g.base(c.Slot)) < uint64(r.fold):
			at.reason = futago.ReasonRepeat
			repeat = at
		}
		return false
	}
	if l != nil && l.windows+l.folds > 0 {
		for i := l.newest; i != none; {
			g := j.mem.group(i)
			here := i
			i = g.older
			if j.expired(&g.Group) {
				j.free(here)
				continue
			}
			if look(&g.Group, nearby{inMemory: here, inSpill: -1}) {
				return later
			}
			if repeat != nothing && l.windows == 0 {
				break
			}
		}
	}
	for i := range slices.Backward(spilled) {
		if look(spilled[i].Group, nearby{inMemory: none, inSpill: i}) {
			return later
		}
	}
	if later != nothing {
		return later
	}
	return repeat
}

func (j *Judge) count(i uint32, c Copy, why futago.Reason) Verdict {
	n := j.mem.group(i)
	n.count(c.Slot, c.At)
	j.mem.noteLacking(i)
	j.out = n.Group
	return Verdict{Reason: why, Group: &j.out}
}

func (j *Judge) countSpilled(f found, c Copy, why futago.Reason) Verdict {
	f.count(c.Slot, c.At)
	j.disk.touched(f, &j.rules[f.Rule])
	j.out = *f.Group
	return Verdict{Reason: why, Group: &j.out}
}

func (j *Judge) create(c Copy, rule RuleID, id uint64, s Spill) (Verdict, error) {
	g := Group{ID: id, Key: c.Key, At: c.At, Rule: rule}
	g.count(c.Slot, c.At)
	j.next = max(j.next, id+1)
	j.mem.add(&g, &j.rules[rule])
	j.sweep()
	if err := j.bound(s); err != nil {
		return Verdict{}, err
	}
	j.out = g
	return Verdict{New: true, Reason: futago.ReasonFirst, Group: &j.out}, nil
}

// free takes an event out of memory.
func (j *Judge) free(i uint32) {
	if j.hand == i {
		j.hand = j.mem.group(i).allNewer
	}
	j.mem.remove(i)
}

// sweep clears a few expired events away, going round and round.
func (j *Judge) sweep() {
	for range sweepEach {
		if j.hand == none {
			j.hand = j.mem.oldest
		}
		i := j.hand
		if i == none {
			return
		}
		n := j.mem.group(i)
		j.hand = n.allNewer
		if j.expired(&n.Group) {
			j.free(i)
		}
	}
}
