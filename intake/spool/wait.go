package spool

import (
	"container/heap"
	"context"
)

// waiter waits for one position.
type waiter struct {
	pos   uint64
	index int // in the heap, -1 when out of it
	done  chan struct{}
	err   error // set before done is closed
}

// waiterHeap has the lowest position on top, so that an acknowledgement costs
// as much as the waiters that it releases, however many others there are.
type waiterHeap []*waiter

// Len implements [heap.Interface].
func (h waiterHeap) Len() int { return len(h) }

// Less implements [heap.Interface].
func (h waiterHeap) Less(i, j int) bool { return h[i].pos < h[j].pos }

// Swap implements [heap.Interface].
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements [heap.Interface].
func (h *waiterHeap) Push(x any) {
	w := x.(*waiter)
	w.index = len(*h)
	*h = append(*h, w)
}

// Pop implements [heap.Interface].
func (h *waiterHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.index = -1
	return w
}

// release ends the wait for everything up to a position.
func (h *waiterHeap) release(upTo uint64) { h.fail(upTo, nil) }

func (h *waiterHeap) fail(upTo uint64, err error) {
	for len(*h) > 0 && (*h)[0].pos <= upTo {
		w := heap.Pop(h).(*waiter)
		w.err = err
		close(w.done)
	}
}

// WaitAcked returns nil once the log holds the record at a position. Thousands
// of goroutines may wait at once.
//
// Errors: that of ctx, CodeUnavailable when the spool is closed, CodeCorrupt
// when the record was lost in the spool.
func (s *Spool) WaitAcked(ctx context.Context, pos uint64) error {
	s.mu.Lock()
	if pos <= s.acked {
		s.mu.Unlock()
		return nil
	}
	if s.closed {
		s.mu.Unlock()
		return errClosed()
	}
	w := &waiter{pos: pos, done: make(chan struct{})}
	heap.Push(&s.waiters, w)
	s.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if w.index >= 0 {
			heap.Remove(&s.waiters, w.index)
			return ctx.Err()
		}
		return w.err // released at the same moment
	}
}
