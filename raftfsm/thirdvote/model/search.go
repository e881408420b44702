package model

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Limits end a search that would not end by itself in time.
type Limits struct {
	States int           // 0: none
	Time   time.Duration // 0: none
}

// Result is what a search found.
type Result struct {
	Violation   string // "" for none
	Trace       Trace  // the shortest schedule to it
	States      int
	Transitions int
	Depth       int  // steps from the start that were searched
	Complete    bool // every schedule within the bounds was searched
	Elapsed     time.Duration
}

// String is one line.
func (r Result) String() string {
	what := "no violation, complete"
	switch {
	case r.Violation != "":
		what = fmt.Sprintf("VIOLATION in %d steps: %s", len(r.Trace), r.Violation)
	case !r.Complete:
		what = "no violation to this depth, not complete"
	}
	return fmt.Sprintf("%s; %d states, %d transitions, depth %d, %v", what, r.States, r.Transitions, r.Depth, r.Elapsed.Round(time.Millisecond))
}

// checkEvery is how many states are expanded between two looks at the clock.
const checkEvery = 4096

// Search explores all schedules, shortest first, until one breaks something,
// all are done, a limit is met, or ctx ends. States are known by a hash of 64
// bits, so that among n of them one is missed with a chance below n²/2⁶⁵. It
// keeps 20 bytes for each state, and 72 for each in the present and the next
// depth.
//
// Bounds must fit a packed state: at most 7 terms and 4 entries.
func (m *Model) Search(ctx context.Context, limits Limits) (Result, error) {
	b := m.Bounds
	if b.Terms > packedTerm || b.Log > packedLog || b.Messages > maxMessages || b.Writes > maxWrites || b.Crashes > 7 || b.DiskLosses > 2 {
		return Result{}, fmt.Errorf("bounds %+v cannot be packed", b)
	}
	start := time.Now()
	sr := search{m: m, seen: newSet(1 << 16)}
	s := initial()
	m.canonical(&s)
	sr.add(m.key(&s), 0)
	present := sr.next
	var r Result
	for base := 0; len(present) > 0 && sr.violation == ""; r.Depth++ {
		sr.next = nil
		for i := range present {
			if i%checkEvery == 0 {
				r.Elapsed = time.Since(start)
				if ctx.Err() != nil || limits.Time > 0 && r.Elapsed > limits.Time || limits.States > 0 && len(sr.parents) > limits.States {
					r.States, r.Transitions = len(sr.parents), sr.transitions
					return r, ctx.Err()
				}
			}
			sr.expand(unpack(&present[i]), uint32(base+i))
			if sr.violation != "" {
				break
			}
		}
		base += len(present)
		present = sr.next
	}
	r.States, r.Transitions, r.Elapsed = len(sr.parents), sr.transitions, time.Since(start)
	r.Violation = sr.violation
	r.Complete = sr.violation == ""
	if sr.violation != "" {
		trace, err := sr.replay()
		if err != nil {
			return r, err
		}
		r.Trace = trace
	}
	return r, nil
}

type search struct {
	m           *Model
	seen        *set
	next        []packed
	parents     []uint32
	hashes      []uint64
	transitions int

	violation string
	last      uint32 // state that broke something in its next step
	broken    uint64 // hash of what it led to
}

// add reports whether the state was new.
func (sr *search) add(p packed, parent uint32) bool {
	h := p.hash()
	if !sr.seen.add(h) {
		return false
	}
	sr.next = append(sr.next, p)
	sr.parents = append(sr.parents, parent)
	sr.hashes = append(sr.hashes, h)
	return true
}

func (sr *search) expand(s state, index uint32) {
	x := stepper{m: sr.m}
	x.yield = func(t *state) {
		if sr.violation != "" {
			return
		}
		sr.transitions++
		sr.m.canonical(t)
		p := sr.m.key(t)
		if x.violation != "" {
			sr.violation, sr.last, sr.broken = x.violation, index, p.hash()
			return
		}
		if sr.add(p, index) && sr.m.visit != nil {
			sr.m.visit(t)
		}
	}
	x.successors(&s)
}

// replay walks the schedule to the violation again, with texts and without
// exchanging the nodes.
func (sr *search) replay() (Trace, error) {
	path := []uint64{sr.broken}
	for i := sr.last; i != 0; i = sr.parents[i] {
		path = append(path, sr.hashes[i])
	}
	slices.Reverse(path)
	s := initial()
	sr.m.canonical(&s)
	var trace Trace
	for k, want := range path {
		var found *state
		x := stepper{m: sr.m, tracing: true}
		x.yield = func(t *state) {
			sr.m.canonical(t)
			if p := sr.m.key(t); found != nil || p.hash() != want || (x.violation != "") != (k == len(path)-1) {
				return
			}
			u := *t
			found = &u
			trace = append(trace, Step{Text: x.text, State: x.stateText(t)})
		}
		x.successors(&s)
		if found == nil {
			return trace, fmt.Errorf("step %d of the trace cannot be repeated", k+1)
		}
		s = *found
	}
	return trace, nil
}

// set holds hashes in an open table that doubles when it is half full.
type set struct {
	table []uint64
	n     int
}

func newSet(size int) *set { return &set{table: make([]uint64, size)} }

// add reports whether h was new.
func (s *set) add(h uint64) bool {
	if s.n*2 >= len(s.table) {
		old := s.table
		s.table = make([]uint64, 2*len(old))
		for _, o := range old {
			if o != 0 {
				s.put(o)
			}
		}
	}
	if !s.put(h) {
		return false
	}
	s.n++
	return true
}

func (s *set) put(h uint64) bool {
	mask := uint64(len(s.table) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch s.table[i] {
		case 0:
			s.table[i] = h
			return true
		case h:
			return false
		}
	}
}
