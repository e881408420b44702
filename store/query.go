package store

import (
	"context"
	"errors"
	"iter"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store/internal/litedb"
	"github.com/futago/futago/store/text"
)

// defaultLimit is the size of a page that names none.
const defaultLimit = 100

// DefaultBudget is how long a page may take when Options name no budget.
const DefaultBudget = 2 * time.Second

// Page is part of a query's result, as a walk over some range of ids found it.
type Page struct {
	Events []futago.Event
	// Next is the last id that was looked at or passed over.
	Next uint64
	// More says that ids beyond Next were not looked at.
	More bool
	// Complete is false when the budget ran out before the page was full.
	Complete bool

	bytes int
}

// pageBytes is about the greatest size of a page: one of large events ends
// before its limit, and its cursor goes on.
const pageBytes = 8 << 20

// Add appends an event and reports whether the page is full.
func (p *Page) Add(ev futago.Event, limit int) (full bool) {
	p.Events = append(p.Events, ev)
	p.bytes += 512 + len(ev.Trap.Message) + 2*len(ev.Trap.Raw)
	return len(p.Events) >= limit || p.bytes >= pageBytes
}

// EventPage turns the result of a walk over the whole history into that of a query.
func (p *Page) EventPage() futago.EventPage {
	out := futago.EventPage{Events: p.Events, Complete: p.Complete}
	if p.More {
		out.Next = p.Next
	}
	if out.Events == nil {
		out.Events = []futago.Event{} // an empty list in JSON
	}
	return out
}

// Filter is a validated query. Package search shares it.
type Filter struct {
	Kinds       []futago.Kind
	MaxSeverity *futago.Severity
	Source      netip.Prefix
	Host        string // lower case
	Text        text.Query
	// Timed says that the query limits the arrival.
	Timed     bool
	Ascending bool
	Limit     int
	// Lo and Hi are the ids that the cursors leave, both included.
	Lo, Hi uint64

	from, to int64 // both included
	where    string
	args     []any
	match    *text.Matcher
	decode   bool // the trap has to be looked at
}

// NewFilter validates q. Errors have CodeInvalid. A Filter is for one goroutine.
func NewFilter(q futago.EventQuery) (*Filter, error) {
	f := &Filter{
		Kinds: q.Kinds, MaxSeverity: q.MaxSeverity, Source: q.Source, Ascending: q.Ascending, Limit: q.Limit,
		Timed: !q.From.IsZero() || !q.To.IsZero(), Lo: q.After + 1, Hi: math.MaxInt64,
		from: math.MinInt64, to: math.MaxInt64,
	}
	switch {
	case q.Limit == 0:
		f.Limit = defaultLimit
	case q.Limit < 0 || q.Limit > futago.MaxPage:
		return nil, futago.Errorf(futago.CodeInvalid, "limit %d is out of range", q.Limit).
			WithAction("use 1 to %d", futago.MaxPage)
	}
	if q.After >= math.MaxInt64 {
		f.Lo = math.MaxInt64
	}
	if q.Before != 0 {
		f.Hi = min(q.Before-1, math.MaxInt64)
	}
	if !q.From.IsZero() {
		f.from = nanoseconds(q.From)
	}
	if !q.To.IsZero() {
		f.to = nanoseconds(q.To)
		if f.to > math.MinInt64 {
			f.to--
		}
	}
	var w strings.Builder
	add := func(cond string, args ...any) {
		w.WriteString(" AND " + cond)
		f.args = append(f.args, args...)
	}
	if f.Timed {
		add("at BETWEEN ? AND ?", f.from, f.to)
	}
	if len(q.Kinds) > 0 {
		add("(1 << kind) & ? <> 0", f.kindBits())
	}
	if q.MaxSeverity != nil {
		add("severity <= ?", int64(*q.MaxSeverity))
	}
	if q.Source != (netip.Prefix{}) {
		if !q.Source.IsValid() {
			return nil, futago.Errorf(futago.CodeInvalid, "the source is no address prefix").
				WithAction("write it like 192.0.2.7 or 192.0.2.0/24")
		}
		lo, hi := f.SourceRange()
		add("source BETWEEN ? AND ? AND length(source) = ?", lo, hi, len(lo))
	}
	f.where = w.String()
	f.Host = strings.ToLower(strings.TrimSpace(q.Host))
	f.Text = text.Parse(q.Text)
	f.match = text.NewMatcher(f.Text)
	f.decode = f.Host != "" || len(f.Text) > 0
	return f, nil
}

// SourceRange returns the least and the greatest stored address of the prefix.
func (f *Filter) SourceRange() (lo, hi []byte) {
	p := f.Source
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	lo = p.Addr().AsSlice()
	hi = append([]byte(nil), lo...)
	for i := p.Bits(); i < 8*len(hi); i++ {
		hi[i/8] |= 0x80 >> (i % 8)
	}
	return lo, hi
}

func (f *Filter) kindBits() (bits int64) {
	if len(f.Kinds) == 0 {
		return -1
	}
	for _, k := range f.Kinds {
		bits |= bit(uint8(k))
	}
	return bits
}

func (f *Filter) severityBits() int64 {
	if f.MaxSeverity == nil {
		return -1
	}
	return bit(uint8(*f.MaxSeverity))<<1 - 1
}

// nanoseconds is t.UnixNano, bounded where that has no result.
func nanoseconds(t time.Time) int64 {
	switch y := t.Year(); {
	case y < 1678:
		return math.MinInt64
	case y > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// accept decides what SQL cannot.
func (f *Filter) accept(t *futago.Trap) bool {
	return (f.Host == "" || f.Host == strings.ToLower(t.Host)) && f.match.Match(t)
}

// event decodes a row and reports whether the filter wants it.
func (f *Filter) event(path string, r litedb.Row) (ev futago.Event, ok bool, err error) {
	var e EventRow
	if err := parseRow(path, r, &e); err != nil {
		return ev, false, err
	}
	if ev, err = e.Event(); err != nil {
		return ev, false, err
	}
	return ev, !f.decode || f.accept(&ev.Trap), nil
}

// Events returns a page by walking the history from the cursor on, skipping
// blocks by the zone map. Filters on text, host and source look at every row
// that the others leave; package search is for these.
func (s *Store) Events(ctx context.Context, q futago.EventQuery) (futago.EventPage, error) {
	f, err := NewFilter(q)
	if err != nil {
		return futago.EventPage{}, err
	}
	budget, cancel := context.WithTimeout(ctx, s.o.Budget)
	defer cancel()
	p, err := s.Scan(ctx, budget, f, 1, math.MaxInt64)
	if err != nil {
		return futago.EventPage{}, err
	}
	return p.EventPage(), nil
}

// Scan walks over ids lo to hi, both included, as far as the filter's cursors
// leave them. budget ends the walk early, ctx fails it.
func (s *Store) Scan(ctx, budget context.Context, f *Filter, lo, hi uint64) (p Page, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		p, err = f.scan(ctx, budget, c, max(lo, f.Lo), min(hi, f.Hi))
		return err
	})
	return p, err
}

func (f *Filter) scan(ctx, budget context.Context, c *litedb.Conn, lo, hi uint64) (Page, error) {
	// What is committed later is not looked at, so that Next is true.
	newest, err := newestEvent(ctx, c)
	if err != nil {
		return Page{}, err
	}
	hi = min(hi, newest)
	p := Page{Next: lo, Complete: true}
	if f.Ascending {
		p.Next = hi
	}
	// The walk is cut into blocks. Within one, SQL filters and bounds; between
	// two, the budget is looked at.
	for lo <= hi {
		z, found, err := f.nextZone(ctx, c, lo, hi)
		if err != nil || !found {
			return p, err
		}
		first, last := max(lo, uint64(z)<<zoneShift), min(hi, (uint64(z)+1)<<zoneShift-1)
		full, err := f.block(ctx, c, first, last, &p)
		if err != nil {
			return p, err
		}
		if f.Ascending {
			lo = last + 1
		} else {
			hi = first - 1
		}
		if full {
			p.Next, p.More = p.Events[len(p.Events)-1].ID, true
			return p, nil
		}
		if budget.Err() != nil && lo <= hi {
			if err := ctx.Err(); err != nil {
				return p, err
			}
			p.Next, p.More, p.Complete = last, true, false
			if !f.Ascending {
				p.Next = first
			}
			return p, nil
		}
	}
	return p, nil
}

// nextZone finds the next block in the direction of the walk in which the
// filter can find anything.
func (f *Filter) nextZone(ctx context.Context, c *litedb.Conn, lo, hi uint64) (block int64, found bool, err error) {
	order := "DESC"
	if f.Ascending {
		order = "ASC"
	}
	found, err = c.One(ctx, func(r litedb.Row) error { block = r.Int(0); return nil },
		`SELECT block FROM zones WHERE block BETWEEN ? AND ? AND hi >= ? AND lo <= ?
		 AND kinds & ? <> 0 AND severities & ? <> 0 ORDER BY block `+order+` LIMIT 1`,
		lo>>zoneShift, hi>>zoneShift, f.from, f.to, f.kindBits(), f.severityBits())
	return block, found, err
}

// block adds what the filter wants of ids first to last and reports whether
// the page is full.
func (f *Filter) block(ctx context.Context, c *litedb.Conn, first, last uint64, p *Page) (full bool, err error) {
	order := "DESC"
	if f.Ascending {
		order = "ASC"
	}
	args := append([]any{first, last}, f.args...)
	err = c.Query(ctx, func(r litedb.Row) error {
		ev, ok, err := f.event(c.Path(), r)
		if err != nil || !ok {
			return err
		}
		if full = p.Add(ev, f.Limit); full {
			return litedb.ErrStop
		}
		return nil
	}, "SELECT "+rowColumns+" FROM events WHERE id BETWEEN ? AND ?"+f.where+" ORDER BY id "+order, args...)
	return full, err
}

// lookupIDs is how many ids one statement looks up.
const lookupIDs = 32

var lookupWhere = "id IN (?" + strings.Repeat(",?", lookupIDs-1) + ")"

// Lookup goes through ids in the order given, which must be that of the
// filter, and visits the events that the filter wants, until visit returns
// false.
func (s *Store) Lookup(ctx context.Context, f *Filter, ids []uint64, visit func(futago.Event) bool) error {
	order := "DESC"
	if f.Ascending {
		order = "ASC"
	}
	sql := "SELECT " + rowColumns + " FROM events WHERE " + lookupWhere + f.where + " ORDER BY id " + order
	return s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		for len(ids) > 0 {
			n := min(len(ids), lookupIDs)
			args := make([]any, lookupIDs, lookupIDs+len(f.args))
			for i := range args {
				args[i] = ids[min(i, n-1)]
			}
			more := true
			err := c.Query(ctx, func(r litedb.Row) error {
				ev, ok, err := f.event(c.Path(), r)
				if err != nil || !ok {
					return err
				}
				if more = visit(ev); !more {
					return litedb.ErrStop
				}
				return nil
			}, sql, append(args, f.args...)...)
			if err != nil || !more {
				return err
			}
			ids = ids[n:]
		}
		return nil
	})
}

// NextBlock returns the next block of ids within lo to hi, in the direction of
// the filter, in which the zone map expects anything for it.
func (s *Store) NextBlock(ctx context.Context, f *Filter, lo, hi uint64) (first, last uint64, found bool, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		var b int64
		b, found, err = f.nextZone(ctx, c, lo, hi)
		first, last = max(lo, uint64(b)<<zoneShift), min(hi, (uint64(b)+1)<<zoneShift-1)
		return err
	})
	return first, last, found, err
}

// ZoneMask returns which blocks of ids lo to hi can hold events that the
// filter's time range, kinds and severities admit, as ranges of ids.
func (s *Store) ZoneMask(ctx context.Context, f *Filter, lo, hi uint64) (ranges [][2]uint64, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		return c.Query(ctx, func(r litedb.Row) error {
			b := uint64(r.Int(0)) << zoneShift
			ranges = append(ranges, [2]uint64{max(lo, b), min(hi, b+1<<zoneShift-1)})
			return nil
		}, `SELECT block FROM zones WHERE block BETWEEN ? AND ? AND hi >= ? AND lo <= ?
			AND kinds & ? <> 0 AND severities & ? <> 0 ORDER BY block`,
			lo>>zoneShift, hi>>zoneShift, f.from, f.to, f.kindBits(), f.severityBits())
	})
	return ranges, err
}

func newestEvent(ctx context.Context, c *litedb.Conn) (id uint64, err error) {
	_, err = c.One(ctx, func(r litedb.Row) error { id = uint64(r.Int(0)); return nil },
		"SELECT max(id) FROM events")
	return id, err
}

// NewestEvent returns the greatest id, 0 when there is no event.
func (s *Store) NewestEvent(ctx context.Context) (id uint64, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		id, err = newestEvent(ctx, c)
		return err
	})
	return id, err
}

// Event returns one event; CodeNotFound when there is none with this id.
func (s *Store) Event(ctx context.Context, id uint64) (ev futago.Event, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		found, err := c.One(ctx, func(r litedb.Row) error {
			var e EventRow
			if err := parseRow(c.Path(), r, &e); err != nil {
				return err
			}
			ev, err = e.Event()
			return err
		}, "SELECT "+rowColumns+" FROM events WHERE id = ?", id)
		if err == nil && !found {
			return futago.Errorf(futago.CodeNotFound, "event %d does not exist", id)
		}
		return err
	})
	return ev, err
}

// OpenEvents yields the events from fromID on in the order of ids, without
// their traps: what the de-duplication is rebuilt from. It sees one moment.
// The range ends after the first error.
func (s *Store) OpenEvents(ctx context.Context, fromID uint64) iter.Seq2[EventRow, error] {
	return s.heads(ctx, "SELECT "+headColumns+" FROM events WHERE id >= ? ORDER BY id", fromID)
}

func (s *Store) heads(ctx context.Context, sql string, args ...any) iter.Seq2[EventRow, error] {
	return func(yield func(EventRow, error) bool) {
		var e EventRow
		err := s.readAlone(ctx, func(ctx context.Context, c *litedb.Conn) error {
			return c.Query(ctx, func(r litedb.Row) error {
				if err := parseRow(c.Path(), r, &e); err != nil {
					return err
				}
				if !yield(e, nil) {
					return errYieldEnd
				}
				return nil
			}, sql, args...)
		})
		if err != nil && !errors.Is(err, errYieldEnd) {
			yield(EventRow{}, err)
		}
	}
}

var errYieldEnd = errors.New("the range ended")

// Heads visits events from fromID on without their traps, at most n of them.
func (s *Store) Heads(ctx context.Context, fromID uint64, n int, visit func(*EventRow) error) error {
	return s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		return c.Query(ctx, func(r litedb.Row) error {
			var e EventRow
			if err := parseRow(c.Path(), r, &e); err != nil {
				return err
			}
			return visit(&e)
		}, "SELECT "+headColumns+" FROM events WHERE id >= ? ORDER BY id LIMIT ?", fromID, n)
	})
}

// Traps visits id, row head and decoded trap of events from fromID on, at most
// n of them: what the search index is built from.
func (s *Store) Traps(ctx context.Context, fromID uint64, n int, visit func(*EventRow, *futago.Trap) error) error {
	return s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		return c.Query(ctx, func(r litedb.Row) error {
			var e EventRow
			if err := parseRow(c.Path(), r, &e); err != nil {
				return err
			}
			t, err := command.DecodeTrap(e.Trap)
			if err != nil {
				return litedb.Corrupt(c.Path(), "event %d in %s cannot be decoded", e.ID, c.Path()).Wrap(err)
			}
			return visit(&e, &t)
		}, "SELECT "+rowColumns+" FROM events WHERE id >= ? ORDER BY id LIMIT ?", fromID, n)
	})
}
