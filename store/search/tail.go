package search

import (
	"slices"
	"strings"
)

// tail is the segment being built, in memory. Adding needs the write lock of
// the index, looking up the read lock.
type tail struct {
	seg   uint64
	part  uint64            // how many parts of the segment are stored already
	last  lastEvent         // last event added
	terms map[string]uint32 // term -> index into lists
	lists []list
}

// list is a posting list. Most terms of a segment occur once, so that the
// first offset stands beside the slice.
type list struct {
	term  string
	rest  []uint16
	first uint16
}

func newTail(seg, part uint64) *tail { return &tail{seg: seg, part: part, terms: map[string]uint32{}} }

func (t *tail) add(off uint16, term []byte) {
	i, ok := t.terms[string(term)]
	if !ok {
		s := string(term)
		t.terms[s] = uint32(len(t.lists))
		t.lists = append(t.lists, list{term: s, first: off})
		return
	}
	l := &t.lists[i]
	last := l.first
	if n := len(l.rest); n > 0 {
		last = l.rest[n-1]
	}
	if last != off { // else the event has the term twice
		l.rest = append(l.rest, off)
	}
}

// or adds the events with a term in sp to s.
func (t *tail) or(s *set, sp span) {
	if sp.hi == nil {
		if i, ok := t.terms[string(sp.lo)]; ok {
			t.lists[i].or(s)
		}
		return
	}
	lo, hi := string(sp.lo), string(sp.hi)
	for i := range t.lists {
		if l := &t.lists[i]; lo <= l.term && l.term < hi {
			l.or(s)
		}
	}
}

func (l *list) or(s *set) {
	s.add(l.first)
	for _, off := range l.rest {
		s.add(off)
	}
}

// write hands the terms in order to w.
func (t *tail) write(w *blockWriter) error {
	order := make([]uint32, len(t.lists))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return strings.Compare(t.lists[a].term, t.lists[b].term) })
	var offs []uint16
	for _, i := range order {
		l := &t.lists[i]
		offs = append(append(offs[:0], l.first), l.rest...)
		if err := w.add(l.term, offs); err != nil {
			return err
		}
	}
	return w.flush()
}
