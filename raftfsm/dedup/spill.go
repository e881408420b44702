package dedup

import (
	"math"

	"github.com/futago/futago"
)

// hull is a range of times, both ends included.
type hull struct{ lo, hi int64 }

var noHull = hull{math.MaxInt64, math.MinInt64}

func (h hull) has(t int64) bool  { return h.lo <= t && t <= h.hi }
func (h *hull) add(lo, hi int64) { h.lo, h.hi = min(h.lo, lo), max(h.hi, hi) }

// reach says, for each slot, when a copy must have arrived to belong to one of
// the events that are in the spill alone: pair by rule 1, near by rules 2 and 3.
// It is kept apart, because events that wait for one manager's copies reach far
// for that manager, and hardly for the one whose copies are there.
type reach struct {
	pair, near [futago.Slots]hull
	newest     uint64 // highest id
}

func newReach() reach {
	var r reach
	for m := range r.pair {
		r.pair[m], r.near[m] = noHull, noHull
	}
	return r
}

func (r *reach) has(m int, at int64) bool {
	return r.newest != 0 && (r.pair[m].has(at) || r.near[m].has(at))
}

func (r *reach) empty() bool { return r.newest == 0 }

func (r *reach) extend(g *Group, ru *rule) {
	r.newest = max(r.newest, g.ID)
	for m := range r.pair {
		o := 1 - m
		switch {
		case ru.window:
			r.near[m].add(addTime(g.At, -ru.span), addTime(g.At, ru.span))
		case ru.fold > 0:
			r.near[m].add(addTime(g.base(m), -ru.fold), addTime(g.base(m), ru.fold))
		}
		if !ru.window && g.lacks(m) {
			r.pair[m].add(addTime(g.First[o], -ru.span), addTime(g.Last[o], ru.span))
		}
	}
}

// spilledOf returns the open events of a key that are in the spill alone.
func (j *Judge) spilledOf(k futago.Key, s Spill) ([]Group, error) {
	gs, err := s.Groups(k)
	if err != nil {
		return nil, err
	}
	from := j.memoryFrom()
	open := gs[:0]
	for i := range gs {
		g := &gs[i]
		switch {
		case g.ID >= from: // in memory, or expired and cleared away there
		case j.expired(g):
			if err := s.Delete(k, g.ID); err != nil {
				return nil, err
			}
		default:
			open = append(open, *g)
		}
	}
	return open, nil
}

// memoryFrom is the lowest id in memory: open events below it are in the spill
// alone, and no others are.
func (j *Judge) memoryFrom() uint64 {
	if j.mem.oldest == none {
		return math.MaxUint64
	}
	return j.mem.group(j.mem.oldest).ID
}

// discard takes an expired event out of memory and out of the spill.
func (j *Judge) discard(i uint32, s Spill) error {
	if n := j.mem.group(i); n.saved {
		if err := s.Delete(n.Key, n.ID); err != nil {
			return err
		}
	}
	j.free(i)
	return nil
}

// free takes an event out of memory.
func (j *Judge) free(i uint32) {
	n := j.mem.group(i)
	if j.unsaved == i {
		j.unsaved = n.allNewer
	}
	if j.hand == i {
		j.hand = n.allNewer
	}
	j.mem.remove(i)
}

// sweep clears a few expired events away, going round and round.
func (j *Judge) sweep(s Spill) error {
	for range sweepEach {
		if j.hand == none {
			j.hand = j.mem.oldest
		}
		i := j.hand
		if i == none {
			return nil
		}
		n := j.mem.group(i)
		j.hand = n.allNewer
		if j.expired(&n.Group) {
			if err := j.discard(i, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// bound keeps memory and what Rebuild must read within their limits.
func (j *Judge) bound(s Spill) error {
	for j.unsaved != none {
		n := j.mem.group(j.unsaved)
		if n.ID+uint64(j.limit)+j.scanBeyond >= j.next {
			break
		}
		if j.expired(&n.Group) {
			j.free(j.unsaved)
			continue
		}
		if err := j.save(j.unsaved, s); err != nil {
			return err
		}
	}
	for j.mem.len() > j.limit {
		i := j.mem.oldest
		n := j.mem.group(i)
		if j.expired(&n.Group) {
			if err := j.discard(i, s); err != nil {
				return err
			}
			continue
		}
		if !n.saved {
			if err := j.save(i, s); err != nil {
				return err
			}
		}
		if j.reach.empty() {
			j.reach, j.tighter, j.tidied = newReach(), newReach(), 0
		}
		j.reach.extend(&n.Group, &j.rules[n.Rule])
		// tighter need not be told: the pass has still to come to this event.
		j.free(i)
	}
	return nil
}

// save puts the oldest event that is not in the spill there.
func (j *Judge) save(i uint32, s Spill) error {
	n := j.mem.group(i)
	if err := s.Put(n.Key, n.ID); err != nil {
		return err
	}
	n.saved = true
	j.unsaved = n.allNewer
	return nil
}

// Tidy looks at the next n events in the spill and deletes the expired ones.
// Call it once per transaction with some multiple of the copies judged; it
// costs nothing while the spill is not in use.
func (j *Judge) Tidy(s Spill, n int) error {
	for len(j.dead) > 0 && n > 0 {
		d := j.dead[len(j.dead)-1]
		if err := s.Delete(d.key, d.id); err != nil {
			return err
		}
		j.dead = j.dead[:len(j.dead)-1]
		n--
	}
	if j.reach.empty() || n <= 0 {
		return nil
	}
	gs, err := s.Next(j.tidied, n)
	if err != nil {
		return err
	}
	from := j.memoryFrom()
	over := len(gs) < n
	for i := range gs {
		g := &gs[i]
		if g.ID >= from {
			over = true
			break
		}
		j.tidied = g.ID
		if j.expired(g) {
			if err := s.Delete(g.Key, g.ID); err != nil {
				return err
			}
			continue
		}
		j.tighter.extend(g, &j.rules[g.Rule])
	}
	if over {
		j.reach, j.tighter, j.tidied = j.tighter, newReach(), 0
	}
	return nil
}
