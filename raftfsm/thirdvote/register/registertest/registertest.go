// Package registertest has a register in memory with faults to order, for the
// tests of everything that uses a register.
package registertest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// Fate is what happens to one write.
type Fate int

// The fates. In all but the first the sender gets ErrAmbiguous.
const (
	Do         Fate = iota // done and answered
	DropAnswer             // done, and the answer is lost
	Lose                   // never done
	Late                   // done when [Register.Release] is called, if the record has not moved
)

// Register is the register itself. Managers use it through their own [Client].
// It is safe for concurrent use.
type Register struct {
	mu     sync.Mutex
	rec    register.Record
	exists bool
	down   bool
	late   []write
	reads  int
	writes int
}

type write struct{ old, next register.Record }

// New returns a register that holds first, with version 1 and a nonce if it
// has none. Without an argument the register is empty.
func New(first ...register.Record) *Register {
	g := &Register{}
	for _, r := range first {
		if r.Version == 0 {
			r.Version = 1
		}
		if r.Nonce.IsZero() {
			r.Nonce = register.NewNonce()
		}
		g.rec, g.exists = r, true
	}
	return g
}

// Current returns the record now, past all faults.
func (g *Register) Current() register.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rec
}

// Restore puts an older copy in the place of the record.
func (g *Register) Restore(r register.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rec, g.exists = r, true
}

// SetDown makes every operation of every client fail with ErrUnavailable.
func (g *Register) SetDown(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = down
}

// Pending returns how many late writes wait.
func (g *Register) Pending() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.late)
}

// Release lets the late writes take effect, oldest first, and returns how many
// did; the others found the record moved.
func (g *Register) Release() (done int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.late {
		if _, err := g.set(w); err == nil {
			done++
		}
	}
	g.late = nil
	return done
}

// Count returns the numbers of reads and of writes done so far.
func (g *Register) Count() (reads, writes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reads, g.writes
}

func (g *Register) set(w write) (register.Record, error) {
	if !g.exists {
		return register.Record{}, register.ErrMissing
	}
	if !g.rec.Same(w.old) {
		return register.Record{}, &register.ConflictError{Current: g.rec}
	}
	w.next.Version = w.old.Version + 1
	g.rec = w.next
	g.writes++
	return g.rec, nil
}

// Client is the register as one manager reaches it. The zero faults are none.
type Client struct {
	g *Register

	mu    sync.Mutex
	down  bool
	delay time.Duration
	fate  func(old, next register.Record) Fate
	after func(next register.Record)
}

var _ register.Register = (*Client)(nil)

// Client returns a new way to the register.
func (g *Register) Client() *Client { return &Client{g: g} }

// SetDown cuts this way to the register.
func (c *Client) SetDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// SetDelay makes each operation take at least d.
func (c *Client) SetDelay(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = d
}

// SetFate decides about each write of this client; nil means Do.
func (c *Client) SetFate(f func(old, next register.Record) Fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fate = f
}

// SetAfter has f called after each write that was done and before its answer.
func (c *Client) SetAfter(f func(next register.Record)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.after = f
}

// reach waits the delay out and reports whether the register answers.
func (c *Client) reach(ctx context.Context) error {
	c.mu.Lock()
	delay, down := c.delay, c.down
	c.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", register.ErrUnavailable, ctx.Err())
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", register.ErrUnavailable, err)
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	if down || c.g.down {
		return fmt.Errorf("%w: ordered by the test", register.ErrUnavailable)
	}
	return nil
}

// Read implements [register.Register].
func (c *Client) Read(ctx context.Context) (register.Record, error) {
	if err := c.reach(ctx); err != nil {
		return register.Record{}, err
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.g.reads++
	if !c.g.exists {
		return register.Record{}, register.ErrMissing
	}
	return c.g.rec, nil
}

// CompareAndSet implements [register.Register].
func (c *Client) CompareAndSet(ctx context.Context, old, next register.Record) (register.Record, error) {
	if err := next.ValidateContent(); err != nil {
		return register.Record{}, err
	}
	if next.Nonce.IsZero() || next.Nonce == old.Nonce {
		return register.Record{}, fmt.Errorf("record: the nonce is not new")
	}
	if err := c.reach(ctx); err != nil {
		return register.Record{}, err
	}
	c.mu.Lock()
	fate, after := c.fate, c.after
	c.mu.Unlock()
	f := Do
	if fate != nil {
		f = fate(old, next)
	}
	w := write{old, next}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	switch f {
	case Lose:
		return register.Record{}, register.ErrAmbiguous
	case Late:
		c.g.late = append(c.g.late, w)
		return register.Record{}, register.ErrAmbiguous
	case Do, DropAnswer:
	}
	rec, err := c.g.set(w)
	if err == nil && after != nil {
		c.g.mu.Unlock()
		after(rec)
		c.g.mu.Lock()
	}
	if f == DropAnswer {
		return register.Record{}, register.ErrAmbiguous
	}
	return rec, err
}

// Create implements [register.Register].
func (c *Client) Create(ctx context.Context, first register.Record) (register.Record, error) {
	if err := first.ValidateContent(); err != nil {
		return register.Record{}, err
	}
	if err := c.reach(ctx); err != nil {
		return register.Record{}, err
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	if c.g.exists {
		return register.Record{}, register.ErrExists
	}
	first.Version = 1
	c.g.rec, c.g.exists = first, true
	c.g.writes++
	return first, nil
}
