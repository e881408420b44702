// Package search keeps a full-text index over the event history and answers
// the queries of package store with it. The index is derived data: every
// manager builds its own in the background, in a file of its own that may be
// deleted at any time. It is neither replicated nor part of any hash.
//
// The index is a row of segments of 32768 events each. A segment maps terms
// (words, host, source, kind, severity) to sets of events. The newest one is in
// memory; a full one is written once and never changed, so that nothing is
// ever merged, and pages, which run from new to old, look at as many segments
// as they need and no more. What the index finds is verified against the rows.
// Events newer than the index are scanned directly.
package search

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/store"
)

// Options of an Index.
type Options struct {
	// Path of the index file.
	Path  string
	Store *store.Store
	// Rate bounds how many events per second are indexed, default 20000, so
	// that catching up leaves the processors to the traps coming in. While more
	// than 10000 events a second come in, it is an eighth of that.
	Rate int
	// Budget is how long a query may take before its page comes back
	// incomplete, default store.DefaultBudget.
	Budget time.Duration
	Logger *slog.Logger
}

// Index is the search index. Its methods are safe for concurrent use.
type Index struct {
	o   Options
	log *slog.Logger

	// files guards db: queries hold it for reading, a rebuild for writing.
	files sync.RWMutex
	db    *database

	// mu guards tail, its content and parts.
	mu    sync.RWMutex
	tail  *tail
	parts []uint16 // stored parts of each segment

	maxTerms int // constant of the same name; tests make it small

	indexed atomic.Uint64 // greatest id in the index
	damaged atomic.Bool   // a query met damage; Run builds anew
	wake    chan struct{} // tells Run of damage
	epoch   uint64        // of the store, when the index was compared with it
	newest  uint64        // event at the last step; of Run alone
}

// maxTerms bounds the memory that the tail takes, to some 40 MB. A tail that
// reaches it, of messages full of numbers, is stored as a part of its segment.
const maxTerms = 200_000

// lastEvent identifies the newest event of a part, so that an index of
// another history is recognised.
type lastEvent struct {
	id uint64
	at int64
	fp uint64 // from the key
}

func fingerprint(e *store.EventRow) lastEvent {
	return lastEvent{id: e.ID, at: e.At, fp: binary.LittleEndian.Uint64(e.Key[:])}
}

// Open opens the index, or makes a new one when the file is missing, damaged,
// or of an older form. It does not wait for indexing, which is Run's work.
func Open(ctx context.Context, o Options) (*Index, error) {
	if o.Rate <= 0 {
		o.Rate = 20_000
	}
	if o.Budget <= 0 {
		o.Budget = store.DefaultBudget
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	x := &Index{o: o, log: o.Logger.With("component", "search"), wake: make(chan struct{}, 1), maxTerms: maxTerms}
	if err := x.reopen(ctx); err != nil {
		x.log.Warn("the search index cannot be used and is built anew", "err", err)
		if err := x.rebuild(ctx); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// reopen opens the file and compares it with the store. The caller is alone.
func (x *Index) reopen(ctx context.Context) error {
	db, err := openDatabase(ctx, x.o.Path)
	if err != nil {
		return err
	}
	x.db = db
	if err := x.align(ctx); err != nil {
		x.db = nil
		return errors.Join(err, db.close())
	}
	return nil
}

// align drops the segments that do not belong to the store's history, or that
// are ahead of it, and begins the tail behind the others. The store may be
// younger than the index: after it was restored, or had lost its last moments.
func (x *Index) align(ctx context.Context) error {
	x.epoch = x.o.Store.Epoch()
	segs, err := x.db.segments(ctx)
	if err != nil {
		return err
	}
	next := segment{}
	resume := uint64(1)
	var parts []uint16
	for _, s := range segs {
		if s.seg != next.seg && s.seg != next.seg+1 || s.seg == next.seg && s.part != next.part || s.seg > next.seg && s.part != 0 {
			break // a gap: what follows is of no use
		}
		var have lastEvent
		err := x.o.Store.Heads(ctx, s.last.id, 1, func(e *store.EventRow) error {
			have = fingerprint(e)
			return nil
		})
		if err != nil {
			return err
		}
		if have != s.last {
			break
		}
		for uint64(len(parts)) <= s.seg {
			parts = append(parts, 0)
		}
		parts[s.seg]++
		next = segment{seg: s.seg, part: s.part + 1}
		resume = s.last.id + 1
	}
	if n := len(segs); n > 0 && partKey(segs[n-1].seg, segs[n-1].part) >= partKey(next.seg, next.part) {
		x.log.Info("the search index is ahead of the history; part of it is dropped", "from_event", resume)
		if err := x.db.drop(partKey(next.seg, next.part)); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.parts = parts
	x.tail = newTail(next.seg, next.part)
	x.indexed.Store(resume - 1)
	return nil
}

// rebuild starts from nothing.
func (x *Index) rebuild(ctx context.Context) error {
	x.files.Lock()
	defer x.files.Unlock()
	if x.db != nil {
		_ = x.db.close() // it is deleted next
		x.db = nil
	}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(x.o.Path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	x.damaged.Store(false)
	return x.reopen(ctx)
}

// Close closes the files. Run must have returned.
func (x *Index) Close() error {
	x.files.Lock()
	defer x.files.Unlock()
	if x.db == nil {
		return nil
	}
	err := x.db.close()
	x.db = nil
	return err
}

// Indexed returns the greatest event id in the index. Later events are found
// too, more slowly.
func (x *Index) Indexed() uint64 { return x.indexed.Load() }

// busyRate is how many events a second may arrive before indexing steps back to
// an eighth of its rate: the processors belong to the traps then, and what is
// not indexed is found all the same, more slowly.
const busyRate = 10_000

// pace is how fast to index.
type pace struct {
	tick   <-chan time.Time // each second
	before uint64           // newest event at the last tick
	busy   bool
}

// after returns how long to wait after n events.
func (p *pace) after(n, rate int, newest uint64) time.Duration {
	select {
	case <-p.tick:
		p.busy = p.before > 0 && newest > p.before+busyRate
		p.before = newest
	default:
	}
	if p.busy {
		rate = max(rate/8, 1)
	}
	return time.Duration(n) * time.Second / time.Duration(rate)
}

const (
	batch    = 512                    // events between two looks at the rate
	coalesce = 100 * time.Millisecond // between two looks at the store
	retry    = 10 * time.Second       // after an error
)

// Run builds the index until ctx ends. It goes on after errors: damage makes
// it build anew, and while there is no room it tries again.
func (x *Index) Run(ctx context.Context) error {
	failing := false
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	p := &pace{tick: tick.C}
	for ctx.Err() == nil {
		changed := x.o.Store.Changed()
		n, err := x.step(ctx)
		wait := p.after(n, x.o.Rate, x.newest)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			failing = false
			if n < batch {
				select {
				case <-changed:
				case <-x.wake:
				case <-ctx.Done():
				}
				wait = max(wait, coalesce)
			}
		case futago.CodeOf(err) == futago.CodeUnavailable: // the store is being replaced
			wait = coalesce
		case futago.CodeOf(err) == futago.CodeCorrupt && x.indexFault(err):
			x.log.Warn("the search index is damaged and is built anew", "err", err)
			if err := x.rebuild(ctx); err != nil {
				x.log.Error("the search index cannot be built anew", "err", err)
				wait = retry
			}
		default:
			if !failing {
				x.log.Error("events are not being indexed; searching them is slow", "code", futago.CodeOf(err), "err", err)
			}
			failing, wait = true, retry
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
	return nil
}

// errIndex marks damage of the index file, as against that of the store.
var errIndex = errors.New("search index")

func (x *Index) indexFault(err error) bool { return errors.Is(err, errIndex) }

// markDamaged makes Run build the index anew.
func (x *Index) markDamaged(err error) {
	if !x.damaged.Swap(true) {
		x.log.Warn("the search index is damaged; searching without it", "err", err)
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// step indexes up to one batch and returns how many events that were.
func (x *Index) step(ctx context.Context) (n int, err error) {
	x.files.RLock()
	missing := x.db == nil
	x.files.RUnlock()
	if missing || x.damaged.Load() {
		return 0, futago.Errorf(futago.CodeCorrupt, "a query met damage").Wrap(errIndex)
	}
	newest, err := x.o.Store.NewestEvent(ctx)
	if err != nil {
		return 0, err
	}
	x.newest = newest
	if x.epoch != x.o.Store.Epoch() || newest < x.indexed.Load() {
		if err := x.realign(ctx); err != nil {
			return 0, err
		}
	}
	var m termMaker
	err = x.o.Store.Traps(ctx, x.indexed.Load()+1, batch, func(e *store.EventRow, t *futago.Trap) error {
		if seg := e.ID >> segShift; seg != x.tail.seg || len(x.tail.lists) >= x.maxTerms && x.tail.part < maxParts-1 {
			if err := x.seal(ctx, seg); err != nil {
				return err
			}
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		m.terms(e, t, func(term []byte) { x.tail.add(uint16(e.ID&segMask), term) })
		x.tail.last = fingerprint(e)
		x.indexed.Store(e.ID)
		n++
		return nil
	})
	return n, err
}

func (x *Index) realign(ctx context.Context) error {
	x.files.Lock()
	defer x.files.Unlock()
	if err := x.align(ctx); err != nil {
		return asIndexError(err)
	}
	return nil
}

// seal writes the tail, which is full, and begins the next one, of segment
// next. Only Run changes the tail, so that reading it here needs no lock.
func (x *Index) seal(ctx context.Context, next uint64) error {
	x.files.RLock()
	defer x.files.RUnlock()
	t := x.tail
	stored := t.last.id != 0
	if stored {
		if err := x.db.write(ctx, t); err != nil {
			return asIndexError(err)
		}
	}
	// From here on readers find it in the file.
	x.mu.Lock()
	defer x.mu.Unlock()
	for uint64(len(x.parts)) <= t.seg {
		x.parts = append(x.parts, 0)
	}
	if stored {
		x.parts[t.seg]++
	}
	part := uint64(0)
	if next == t.seg {
		part = uint64(x.parts[t.seg])
	}
	x.tail = newTail(next, part)
	return nil
}

func asIndexError(err error) error {
	if futago.CodeOf(err) == futago.CodeCorrupt {
		return futago.Errorf(futago.CodeCorrupt, "the search index is damaged").Wrap(fmt.Errorf("%w: %w", errIndex, err))
	}
	return err
}
