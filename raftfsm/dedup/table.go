package dedup

import "github.com/futago/futago"

// none is the index of nothing.
const none = ^uint32(0)

// slab hands out numbered cells. Cells do not move, and growing copies nothing.
type slab[T any] struct {
	chunks []*[chunk]T
	unused []uint32
	n      uint32 // cells ever handed out
}

const chunk = 1 << 10

func (s *slab[T]) at(i uint32) *T { return &s.chunks[i/chunk][i%chunk] }

func (s *slab[T]) take() uint32 {
	if n := len(s.unused); n > 0 {
		i := s.unused[n-1]
		s.unused = s.unused[:n-1]
		return i
	}
	if s.n%chunk == 0 {
		s.chunks = append(s.chunks, new([chunk]T))
	}
	s.n++
	return s.n - 1
}

func (s *slab[T]) give(i uint32) { s.unused = append(s.unused, i) }

// node is an open event in memory, linked in the list of its key and in the
// list of all, both by ascending id.
type node struct {
	Group
	window, fold     bool   // made under a rule of window mode, or one that folds
	list             uint32 // of its key
	newer, older     uint32 // of the same key
	allNewer, allOld uint32
}

// list is the open events of one key.
type list struct {
	oldest, newest uint32
	// lacking[m] is a place before which no event lacks a copy of slot m.
	lacking [futago.Slots]uint32
	// How many events were made under rules of window mode, and under rules that fold.
	windows, folds uint32
}

// tally keeps windows and folds.
func (l *list) tally(n *node, d int) {
	switch {
	case n.window:
		l.windows += uint32(d)
	case n.fold:
		l.folds += uint32(d)
	}
}

// table holds the open events in memory.
type table struct {
	nodes          slab[node]
	lists          slab[list]
	keys           map[futago.Key]uint32 // index of the list
	oldest, newest uint32
	count          int
}

func newTable() table {
	return table{keys: make(map[futago.Key]uint32), oldest: none, newest: none}
}

func (t *table) len() int             { return t.count }
func (t *table) group(i uint32) *node { return t.nodes.at(i) }

// find returns the list of a key, or nil.
func (t *table) find(k futago.Key) *list {
	if i, ok := t.keys[k]; ok {
		return t.lists.at(i)
	}
	return nil
}

// add links an event that is newer than all others.
func (t *table) add(g *Group, r *rule) uint32 {
	li, ok := t.keys[g.Key]
	if !ok {
		li = t.lists.take()
		*t.lists.at(li) = list{oldest: none, newest: none, lacking: [futago.Slots]uint32{none, none}}
		t.keys[g.Key] = li
	}
	l := t.lists.at(li)
	i := t.nodes.take()
	n := t.nodes.at(i)
	*n = node{Group: *g, window: r.window, fold: !r.window && r.fold > 0, list: li, newer: none, older: l.newest, allNewer: none, allOld: t.newest}
	l.tally(n, 1)
	if l.newest == none {
		l.oldest = i
	} else {
		t.nodes.at(l.newest).newer = i
	}
	l.newest = i
	if t.newest == none {
		t.oldest = i
	} else {
		t.nodes.at(t.newest).allNewer = i
	}
	t.newest = i
	t.count++
	t.noteLacking(i)
	return i
}

// noteLacking keeps lacking true after the counts of an event changed.
func (t *table) noteLacking(i uint32) {
	n := t.nodes.at(i)
	l := t.lists.at(n.list)
	for m := range l.lacking {
		if n.lacks(m) && (l.lacking[m] == none || t.nodes.at(l.lacking[m]).ID > n.ID) {
			l.lacking[m] = i
		}
	}
}

// remove unlinks an event.
func (t *table) remove(i uint32) {
	n := t.nodes.at(i)
	l := t.lists.at(n.list)
	for m := range l.lacking {
		if l.lacking[m] == i {
			l.lacking[m] = n.newer
		}
	}
	l.tally(n, -1)
	if n.older == none {
		l.oldest = n.newer
	} else {
		t.nodes.at(n.older).newer = n.newer
	}
	if n.newer == none {
		l.newest = n.older
	} else {
		t.nodes.at(n.newer).older = n.older
	}
	if l.oldest == none {
		delete(t.keys, n.Key)
		t.lists.give(n.list)
	}
	if n.allOld == none {
		t.oldest = n.allNewer
	} else {
		t.nodes.at(n.allOld).allNewer = n.allNewer
	}
	if n.allNewer == none {
		t.newest = n.allOld
	} else {
		t.nodes.at(n.allNewer).allOld = n.allOld
	}
	t.nodes.give(i)
	t.count--
}
