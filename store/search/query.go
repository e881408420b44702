package search

import (
	"context"
	"errors"

	"github.com/futago/futago"
	"github.com/futago/futago/store"
	"github.com/futago/futago/store/internal/litedb"
)

// weakBelow: with fewer candidates than this, weak groups are not looked up.
const weakBelow = 64

// lookupBatch is how many candidates are verified between two looks at the budget.
const lookupBatch = 256

// Events answers a query with the same result as [store.Store.Events], and
// mostly much sooner. Where the index is damaged or missing it answers
// without it.
func (x *Index) Events(ctx context.Context, q futago.EventQuery) (futago.EventPage, error) {
	f, err := store.NewFilter(q)
	if err != nil {
		return futago.EventPage{}, err
	}
	gs := groups(f)
	if len(gs) == 0 {
		return x.o.Store.Events(ctx, q)
	}
	budget, cancel := context.WithTimeout(ctx, x.o.Budget)
	defer cancel()
	p, err := x.search(ctx, budget, f, gs)
	if err != nil && x.indexFault(err) {
		x.markDamaged(err)
		return x.o.Store.Events(ctx, q)
	}
	if err != nil {
		return futago.EventPage{}, err
	}
	return p.EventPage(), nil
}

// walk is one query under way.
type walk struct {
	x      *Index
	f      *store.Filter
	groups []group
	lo, hi uint64 // what is left to look at
	page   store.Page
	full   bool
}

func (x *Index) search(ctx, budget context.Context, f *store.Filter, gs []group) (store.Page, error) {
	newest, err := x.o.Store.NewestEvent(ctx)
	if err != nil {
		return store.Page{}, err
	}
	w := &walk{x: x, f: f, groups: gs, lo: f.Lo, hi: min(f.Hi, newest), page: store.Page{Complete: true}}
	x.files.RLock()
	defer x.files.RUnlock()
	if x.db == nil {
		return x.o.Store.Scan(ctx, budget, f, 1, newest)
	}
	indexed := min(x.indexed.Load(), newest)
	parts := []func() error{
		func() error { return w.scan(ctx, budget, max(w.lo, indexed+1), w.hi) },
		func() error { return w.segments(ctx, budget, min(w.hi, indexed)) },
	}
	if f.Ascending {
		parts[0], parts[1] = parts[1], parts[0]
	}
	for _, part := range parts {
		if err := part(); err != nil {
			return w.page, err
		}
		if w.full || !w.page.Complete {
			break
		}
		w.page.More = false
	}
	return w.page, nil
}

// scan looks at events that are not in the index.
func (w *walk) scan(ctx, budget context.Context, lo, hi uint64) error {
	if lo > hi {
		return nil
	}
	f := *w.f
	f.Limit -= len(w.page.Events)
	p, err := w.x.o.Store.Scan(ctx, budget, &f, lo, hi)
	if err != nil {
		return err
	}
	for i := range p.Events {
		w.full = w.page.Add(p.Events[i], w.f.Limit)
	}
	w.full = w.full || p.More && p.Complete
	w.page.Next, w.page.More, w.page.Complete = p.Next, p.More, p.Complete
	return nil
}

// segments goes through the index up to id hi.
func (w *walk) segments(ctx, budget context.Context, hi uint64) error {
	var c *litedb.Conn
	select {
	case c = <-w.x.db.readers:
		defer func() { w.x.db.readers <- c }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for w.lo <= hi {
		if w.f.Timed {
			// Straight to the next block that the time range meets.
			first, last, found, err := w.x.o.Store.NextBlock(ctx, w.f, w.lo, hi)
			if err != nil {
				return err
			}
			if !found {
				break
			}
			if w.f.Ascending {
				w.lo = first
			} else {
				hi = last
			}
		}
		seg := hi >> segShift
		if w.f.Ascending {
			seg = w.lo >> segShift
		}
		first, last := max(w.lo, seg<<segShift), min(hi, seg<<segShift|segMask)
		if err := w.segment(ctx, budget, c, seg, first, last); err != nil {
			return err
		}
		if w.full || !w.page.Complete {
			return nil
		}
		if w.f.Ascending {
			w.lo = last + 1
		} else {
			hi = first - 1
		}
		if budget.Err() != nil && w.lo <= hi {
			if err := ctx.Err(); err != nil {
				return err
			}
			w.stop(first, last)
		}
		if !w.page.Complete {
			return nil
		}
	}
	return nil
}

// stop ends the walk early, after ids first to last.
func (w *walk) stop(first, last uint64) {
	w.page.Next, w.page.More, w.page.Complete = first, true, false
	if w.f.Ascending {
		w.page.Next = last
	}
}

// segment looks at ids first to last of one segment.
func (w *walk) segment(ctx, budget context.Context, c *litedb.Conn, seg, first, last uint64) error {
	var found set
	found.addRange(int(first&segMask), int(last&segMask))
	if empty, err := w.candidates(ctx, c, &found, seg); err != nil || empty {
		return err
	}
	if w.f.Timed && found.count() > weakBelow {
		ranges, err := w.x.o.Store.ZoneMask(ctx, w.f, first, last)
		if err != nil {
			return err
		}
		var mask set
		for _, r := range ranges {
			mask.addRange(int(r[0]&segMask), int(r[1]&segMask))
		}
		if found.and(&mask) {
			return nil
		}
	}
	ids := found.ids(seg, w.f.Ascending)
	for len(ids) > 0 {
		n := min(len(ids), lookupBatch)
		err := w.x.o.Store.Lookup(ctx, w.f, ids[:n], func(ev futago.Event) bool {
			w.full = w.page.Add(ev, w.f.Limit)
			return !w.full
		})
		if err != nil {
			return err
		}
		if w.full {
			w.page.Next, w.page.More = w.page.Events[len(w.page.Events)-1].ID, true
			return nil
		}
		at := ids[n-1]
		ids = ids[n:]
		if len(ids) > 0 && budget.Err() != nil {
			if err := ctx.Err(); err != nil {
				return err
			}
			w.stop(at, at)
			return nil
		}
	}
	return nil
}

// candidates narrows s to the events that meet all groups.
func (w *walk) candidates(ctx context.Context, c *litedb.Conn, s *set, seg uint64) (empty bool, err error) {
	for i := range w.groups {
		g := &w.groups[i]
		if g.weak && s.count() < weakBelow {
			continue
		}
		var u set
		for _, sp := range g.spans {
			if err := w.x.or(ctx, c, &u, seg, sp); err != nil {
				return false, err
			}
		}
		if s.and(&u) {
			return true, nil
		}
	}
	return false, nil
}

// or adds the events of a segment with a term in sp to s, wherever the
// segment is at present.
func (x *Index) or(ctx context.Context, c *litedb.Conn, s *set, seg uint64, sp span) error {
	// What is sealed after the lock is let go of was looked up in the tail.
	x.mu.RLock()
	parts := uint16(0)
	if seg < uint64(len(x.parts)) {
		parts = x.parts[seg]
	}
	if x.tail.seg == seg {
		x.tail.or(s, sp)
	}
	x.mu.RUnlock()
	for part := range uint64(parts) {
		err := x.db.or(ctx, c, s, partKey(seg, part), sp)
		if err != nil && !errors.Is(err, ctx.Err()) {
			return asIndexError(err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
