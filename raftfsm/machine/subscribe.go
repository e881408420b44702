package machine

import (
	"sync"
	"sync/atomic"
)

// Change tells what a transaction changed in the history.
type Change struct {
	// Index is the last entry applied.
	Index uint64
	// First to Next-1 are the new events.
	First, Next uint64
	// Updated are older events that got receipts, each once, in no order.
	Updated []uint64
	// Replaced says that the database is another one: read everything again.
	Replaced bool
}

// Subscription receives changes until it is closed.
type Subscription struct {
	// C has what was committed. It is not closed.
	C       <-chan Change
	c       chan Change
	dropped atomic.Uint64
	owner   *subscribers
}

// Dropped is how many changes did not fit into C because it was not read fast
// enough. Whoever sees it rise reads from the store what it missed.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. It may be called twice.
func (s *Subscription) Close() {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	delete(s.owner.all, s)
}

type subscribers struct {
	mu  sync.Mutex // guards all
	all map[*Subscription]struct{}
}

// Subscribe returns a subscription to all changes from now on, with room for
// depth of them, at least 1. Apply never waits for it.
func (m *Machine) Subscribe(depth int) *Subscription {
	s := &Subscription{c: make(chan Change, max(depth, 1)), owner: &m.subs}
	s.C = s.c
	m.subs.mu.Lock()
	defer m.subs.mu.Unlock()
	if m.subs.all == nil {
		m.subs.all = make(map[*Subscription]struct{})
	}
	m.subs.all[s] = struct{}{}
	return s
}

func (s *subscribers) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all) > 0
}

func (s *subscribers) send(c Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.all {
		select {
		case x.c <- c:
		default:
			x.dropped.Add(1)
		}
	}
}
