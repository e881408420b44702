package dedup

import (
	"cmp"
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
	if i := slices.IndexFunc(open, exact); i >= 0 && abs(c.At-open[i].base(c.Slot)) < int64(open[i].rule.Fold) {
		return open[i], futago.ReasonRepeat
	}
	e := &modelEvent{Group: Group{ID: next, Key: c.Key, At: c.At}, rule: r}
	m.events = append(m.events, e)
	m.next = max(m.next, next+1)
	return e, futago.ReasonFirst
}

// memSpill is a Spill in memory, with the rows of the history.
type memSpill struct {
	list   []dead // by ascending id
	keys   map[futago.Key][]uint64
	events map[uint64]*Group
	calls  int
}

func newMemSpill() *memSpill {
	return &memSpill{keys: map[futago.Key][]uint64{}, events: map[uint64]*Group{}}
}

func (s *memSpill) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(s.list, id, func(d dead, id uint64) int { return cmp.Compare(d.id, id) })
}

func (s *memSpill) Put(k futago.Key, id uint64) error {
	i, ok := s.find(id)
	if ok {
		panic("put twice")
	}
	s.list = slices.Insert(s.list, i, dead{k, id})
	s.keys[k] = append(s.keys[k], id)
	slices.Sort(s.keys[k])
	return nil
}

func (s *memSpill) Delete(k futago.Key, id uint64) error {
	if i, ok := s.find(id); ok {
		s.list = slices.Delete(s.list, i, i+1)
		s.keys[k] = slices.DeleteFunc(s.keys[k], func(x uint64) bool { return x == id })
	}
	return nil
}

func (s *memSpill) Groups(k futago.Key) ([]Group, error) {
	s.calls++
	var gs []Group
	for _, id := range s.keys[k] {
		gs = append(gs, *s.events[id])
	}
	return gs, nil
}

func (s *memSpill) Next(after uint64, n int) ([]Group, error) {
	var gs []Group
	i, _ := s.find(after + 1)
	for ; i < len(s.list) && len(gs) < n; i++ {
		gs = append(gs, *s.events[s.list[i].id])
	}
	return gs, nil
}

// scanned yields the history from an id on, spilled the spill backwards.
func (s *memSpill) scanned(from uint64) iter.Seq2[Group, error] {
	return func(yield func(Group, error) bool) {
		for _, id := range slices.Sorted(maps.Keys(s.events)) {
			if id >= from && !yield(*s.events[id], nil) {
				return
			}
		}
	}
}

func (s *memSpill) spilled() iter.Seq2[Group, error] {
	return func(yield func(Group, error) bool) {
		for _, d := range slices.Backward(s.list) {
			if !yield(*s.events[d.id], nil) {
				return
			}
		}
	}
}
