package thirdvote

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errClosed = errors.New("third vote: closed")

// shared lets callers that come at the same time share one call, on one
// condition: the call that a caller gets the result of was begun after the
// caller came. So while a call runs, all who come wait for the one after it.
type shared[T any] struct {
	call    func(ctx context.Context) (T, error)
	timeout time.Duration
	// begin is called at the start of each call with its number, end at its
	// end, before those who wait get the result and before the next begins.
	begin func(seq uint64)
	end   func(seq uint64, v T, err error)

	ctx    context.Context // of the calls; ends with close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	begun   uint64 // number of the last call begun
	running bool
	next    *flight[T]
	due     time.Time // of next
	timer   *time.Timer
	closed  bool
}

type flight[T any] struct {
	done chan struct{}
	val  T
	err  error
}

func newShared[T any](timeout time.Duration, call func(context.Context) (T, error)) *shared[T] {
	s := &shared[T]{call: call, timeout: timeout}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// last returns the number of the last call begun. A call with a higher number
// was begun after now.
func (s *shared[T]) last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// want sees to it that a call begins within delay, or as soon as the running
// one has ended, and returns it.
func (s *shared[T]) want(delay time.Duration) *flight[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := time.Now().Add(delay)
	if s.next == nil {
		s.next = &flight[T]{done: make(chan struct{})}
		s.due = due
	} else if due.Before(s.due) {
		s.due = due
	}
	f := s.next
	s.kick()
	return f
}

// kick starts the next call if it is due, and sets the timer otherwise. It is
// called with mu held.
func (s *shared[T]) kick() {
	if s.next == nil {
		return
	}
	if s.closed {
		s.next.err = errClosed
		close(s.next.done)
		s.next = nil
		return
	}
	if s.running {
		return
	}
	if wait := time.Until(s.due); wait > 0 {
		if s.timer == nil {
			s.timer = time.AfterFunc(wait, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.kick()
			})
		} else {
			s.timer.Reset(wait)
		}
		return
	}
	f := s.next
	s.next = nil
	s.running = true
	s.begun++
	seq := s.begun
	if s.begin != nil {
		s.begin(seq)
	}
	s.wg.Go(func() { s.run(seq, f) })
}

func (s *shared[T]) run(seq uint64, f *flight[T]) {
	ctx, cancel := context.WithTimeout(s.ctx, s.timeout)
	f.val, f.err = s.call(ctx)
	cancel()
	if s.end != nil {
		s.end(seq, f.val, f.err)
	}
	close(f.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	s.kick()
}

// do makes a call now, or shares the next one, and waits for its result.
func (s *shared[T]) do(ctx context.Context) (T, error) {
	f := s.want(0)
	select {
	case <-f.done:
		return f.val, f.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// close ends the running call and waits for it.
func (s *shared[T]) close() {
	s.mu.Lock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.kick()
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}
