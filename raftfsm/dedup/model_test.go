package dedup

import (
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/futago/futago"
)

// model is the rules of docs/deduplication.md written down as plainly as
// possible: it forgets nothing, clears nothing away, and looks at every event
// and every watermark each time.
type model struct {
	events  []*modelEvent
	reports []report
	next    uint64

	maxOpen, firstContact int64
	maxOpenEvents         uint64
}

type modelEvent struct {
	Group
	rule futago.DedupRule
}

type report struct {
	slot int
	next uint64
	at   int64
}

func (m *model) advance(slot int, at int64, next uint64) {
	m.next = max(m.next, next)
	m.reports = append(m.reports, report{slot, m.next, at})
}

// since is the highest watermark of a slot while the event existed. Until its
// first report, a manager counts as being firstContact behind the other.
func (m *model) since(slot int, event uint64) int64 {
	w := int64(math.MinInt64)
	seen := false
	for _, r := range m.reports {
		seen = seen || r.slot == slot
		switch {
		case r.next <= event:
		case r.slot == slot:
			w = max(w, r.at)
		case !seen:
			w = max(w, r.at-m.firstContact)
		}
	}
	return w
}

func (m *model) open(e *modelEvent) bool {
	w := [2]int64{m.since(0, e.ID), m.since(1, e.ID)}
	latest := int64(math.MinInt64)
	for s := range 2 {
		if e.Count[s] > 0 {
			latest = max(latest, e.Last[s])
		}
	}
	if m.next > e.ID+m.maxOpenEvents || max(w[0], w[1]) >= latest+m.maxOpen {
		return false
	}
	for s := range 2 {
		switch {
		case e.rule.Mode == futago.ModeWindow:
			if w[s] < e.At+int64(e.rule.Window) {
				return true
			}
		case e.rule.Fold > 0 && w[s] < e.base(s)+int64(e.rule.Fold):
			return true
		case e.Count[s] < e.Count[1-s] && w[s] < e.Last[1-s]+int64(e.rule.PairWithin):
			return true
		}
	}
	return false
}

func abs(x int64) int64 { return max(x, -x) }

func (m *model) judge(c Copy, r futago.DedupRule, next uint64) (*modelEvent, futago.Reason) {
	m.next = max(m.next, next)
	var open []*modelEvent
	for _, e := range m.events {
		if e.Key == c.Key && m.open(e) {
			open = append(open, e)
		}
	}
	exact := func(e *modelEvent) bool { return e.rule.Mode == futago.ModeExact }
	for _, e := range open {
		o := 1 - c.Slot
		if exact(e) && e.Count[c.Slot] < e.Count[o] &&
			c.At >= e.First[o]-int64(e.rule.PairWithin) && c.At <= e.Last[o]+int64(e.rule.PairWithin) {
			return e, futago.ReasonPaired
		}
	}
	slices.Reverse(open)
	for _, before := range []bool{true, false} {
		for _, e := range open {
			if !exact(e) && (e.At <= c.At) == before && abs(c.At-e.At) < int64(e.rule.Window) {
				return e, futago.ReasonWindow
			}
		}
	}
	for _, e := range open {
		if exact(e) && abs(c.At-e.base(c.Slot)) < int64(e.rule.Fold) {
			return e, futago.ReasonRepeat
		}
	}
	e := &modelEvent{Group: Group{ID: next, Key: c.Key, At: c.At}, rule: r}
	m.events = append(m.events, e)
	m.next = max(m.next, next+1)
	return e, futago.ReasonFirst
}

// memSpill is a Spill in memory, with the rows of the history.
type memSpill struct {
	cells  map[uint32][]byte
	events map[uint64]*Group
	reads  int
}

func newMemSpill() *memSpill {
	return &memSpill{cells: map[uint32][]byte{}, events: map[uint64]*Group{}}
}

func (s *memSpill) PutCell(n uint32, b []byte) error {
	if b == nil {
		delete(s.cells, n)
	} else {
		s.cells[n] = b
	}
	return nil
}

func (s *memSpill) Cell(n uint32) ([]byte, error) {
	s.reads++
	return s.cells[n], nil
}

func (s *memSpill) Groups(ids []uint64) ([]Group, error) {
	var gs []Group
	for _, id := range ids {
		if g, ok := s.events[id]; ok {
			gs = append(gs, *g)
		}
	}
	return gs, nil
}

// scanned yields the history from an id on.
func (s *memSpill) scanned(from uint64) iter.Seq2[Group, error] {
	return func(yield func(Group, error) bool) {
		for _, id := range slices.Sorted(maps.Keys(s.events)) {
			if id >= from && !yield(*s.events[id], nil) {
				return
			}
		}
	}
}
