package search

import (
	"slices"
)

// tail is the segment being built, in memory. Adding needs the write lock of
// the index, looking up the read lock.
type tail struct {
	seg   uint64
	last  lastEvent         // last event added
	terms map[string]uint32 // term -> index into lists
	lists []list
	nodes []node
}

// list is a posting list: a chain of nodes, oldest first.
type list struct {
	term        string
	first, last uint32
}

// node is one posting. Most terms of a segment occur once or twice, so that a
// slice for each would be mostly header.
type node struct {
	off  uint16
	next uint32 // 0 at the end; node 0 is not used
}

func newTail(seg uint64) *tail {
	return &tail{seg: seg, terms: map[string]uint32{}, nodes: make([]node, 1, 1024)}
}

func (t *tail) add(off uint16, term []byte) {
	n := uint32(len(t.nodes))
	i, ok := t.terms[string(term)]
	if !ok {
		s := string(term)
		t.terms[s] = uint32(len(t.lists))
		t.lists = append(t.lists, list{term: s, first: n, last: n})
		t.nodes = append(t.nodes, node{off: off})
		return
	}
	l := &t.lists[i]
	if t.nodes[l.last].off == off {
		return // the event has the term twice
	}
	t.nodes[l.last].next = n
	l.last = n
	t.nodes = append(t.nodes, node{off: off})
}

// or adds the events with a term in sp to s.
func (t *tail) or(s *set, sp span) {
	if sp.hi == nil {
		if i, ok := t.terms[string(sp.lo)]; ok {
			t.orList(s, &t.lists[i])
		}
		return
	}
	for i := range t.lists {
		if l := &t.lists[i]; sp.has([]byte(l.term)) {
			t.orList(s, l)
		}
	}
}

func (t *tail) orList(s *set, l *list) {
	for n := l.first; n != 0; n = t.nodes[n].next {
		s.add(t.nodes[n].off)
	}
}

// write hands the terms in order to w.
func (t *tail) write(w *blockWriter) error {
	order := make([]uint32, len(t.lists))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		if t.lists[a].term < t.lists[b].term {
			return -1
		}
		return 1
	})
	var offs []uint16
	for _, i := range order {
		l := &t.lists[i]
		offs = offs[:0]
		for n := l.first; n != 0; n = t.nodes[n].next {
			offs = append(offs, t.nodes[n].off)
		}
		if err := w.add(l.term, offs); err != nil {
			return err
		}
	}
	return w.flush()
}
