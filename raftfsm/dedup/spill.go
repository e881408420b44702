package dedup

import (
	"math"

	"github.com/futago/futago"
)

// segmentSize is how many events one cell of the spill describes.
const segmentSize = 16384

// hull is a range of times, both ends included.
type hull struct{ lo, hi int64 }

var noHull = hull{math.MaxInt64, math.MinInt64}

func (h hull) has(t int64) bool { return h.lo <= t && t <= h.hi }

// add widens h and reports whether it had to.
func (h *hull) add(x hull) bool {
	was := *h
	h.lo, h.hi = min(h.lo, x.lo), max(h.hi, x.hi)
	return *h != was
}

// around is the times at most d before lo and after hi.
func around(lo, hi, d int64) hull { return hull{addTime(lo, -d), addTime(hi, d)} }

// reach says, for each slot, when a copy must have arrived to be counted for an
// event, or one of several: pair by rule 1, near by rules 2 and 3. They are kept
// apart, because events that wait for one manager's copies reach far for that
// manager, and hardly for the one whose copies are there.
type reach struct {
	pair, near [futago.Slots]hull
}

func newReach() reach {
	var r reach
	for m := range r.pair {
		r.pair[m], r.near[m] = noHull, noHull
	}
	return r
}

func (r *reach) has(m int, at int64) bool { return r.pair[m].has(at) || r.near[m].has(at) }

// add widens r and reports whether it had to.
func (r *reach) add(x *reach) bool {
	wider := false
	for m := range r.pair {
		wider = r.pair[m].add(x.pair[m]) || wider
		wider = r.near[m].add(x.near[m]) || wider
	}
	return wider
}

// all is the times in any of the hulls.
func (r *reach) all() hull {
	h := noHull
	for m := range r.pair {
		h.add(r.pair[m])
		h.add(r.near[m])
	}
	return h
}

func (r *rule) reach(g *Group) reach {
	x := newReach()
	for m := range x.pair {
		o := 1 - m
		switch {
		case r.window:
			x.near[m] = around(g.At, g.At, r.span)
		case r.fold > 0:
			x.near[m] = around(g.base(m), g.base(m), r.fold)
		}
		if !r.window && g.lacks(m) {
			x.pair[m] = around(g.First[o], g.Last[o], r.span)
		}
	}
	return x
}

// bound keeps memory and what Rebuild must read within their limits, by moving
// the oldest open events into the spill.
func (j *Judge) bound(s Spill) error {
	for i := j.mem.oldest; i != none; i = j.mem.oldest {
		n := j.mem.group(i)
		full := j.mem.len() > j.limit
		if !full && n.ID+uint64(j.limit)+j.scanBeyond >= j.next {
			return nil
		}
		if j.expired(&n.Group) {
			j.free(i)
			continue
		}
		if err := j.evict(full, s); err != nil {
			return err
		}
	}
	return nil
}

// evict moves a good number of the oldest events: when memory is full, some of
// it; or else those that would soon be too old as well.
func (j *Judge) evict(full bool, s Spill) error {
	var list []Group
	n := min(j.segmentSize, j.limit/4+1)
	for i := j.mem.oldest; i != none && len(list) < n; i = j.mem.oldest {
		g := j.mem.group(i)
		if !full && g.ID+uint64(j.limit)+j.scanBeyond/2 >= j.next {
			break
		}
		if !j.expired(&g.Group) {
			list = append(list, g.Group)
		}
		j.free(i)
	}
	return j.disk.write(j, list, s)
}

// Tidy gives up what the spill does not need any more. Call it once per
// transaction; it costs next to nothing while the spill is not in use.
func (j *Judge) Tidy(s Spill) error { return j.disk.tidy(j, s) }
