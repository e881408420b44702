// Package dedup judges whether a received copy of a trap is a new event, the
// other manager's copy of one, or a repeat. docs/deduplication.md has the rules
// for operators.
//
// A Judge is pure: it reads no clock, draws no random number and does no I/O
// but through [Spill]. Members that feed it the same copies and watermarks in
// the same order get the same verdicts. The central property is that verdicts
// depend on nothing else: not on how much is kept in memory, on when expired
// state is cleared away, or on restarts. It holds because whether an open event
// has expired is computed, whenever it is looked at, from the event itself and
// from the watermarks that were reported since it was made.
//
// A Judge is not safe for concurrent use.
package dedup

import (
	"math"
	"time"

	"github.com/futago/futago"
)

const (
	// DefaultLimit is how many open events are kept in memory. They take at
	// most 40 MB.
	DefaultLimit = 200_000

	// MaxOpen is how long an event waits for the copies of a manager that is
	// away, measured by the watermark of the manager that is there. It is longer
	// than a spool lasts under any load worth two managers.
	MaxOpen = 7 * 24 * time.Hour

	// MaxOpenEvents is how many later events end the waiting too. It bounds
	// what is kept on disk for a manager that is away, and is well above what
	// its spool can hold (1 GiB by default, some 5 million messages).
	MaxOpenEvents = 20_000_000

	// FirstContact is how long an event waits for copies of a manager that has
	// never reported. A manager reports within a second or so after it joined, so
	// this need not be long, and a cluster that runs with one manager for
	// the time being need not keep everything open for days.
	FirstContact = 2 * time.Minute

	// scanBeyond bounds what Rebuild reads: the limit plus this many events.
	scanBeyond = 100_000

	// sweepEach is how many open events are looked at for each new one.
	sweepEach = 4
)

// Copy is one received copy of a trap.
type Copy struct {
	Key  futago.Key
	Slot int   // the manager that received it: 0 or 1, see futago.MemberID.Slot
	At   int64 // arrival on that manager's clock, nanoseconds since 1970
}

// RuleID stands for a rule within one Judge; it is not kept over restarts.
type RuleID uint32

// Group is an open event: all copies that are one event of the history.
// First and Last of a slot mean nothing while its Count is 0.
type Group struct {
	ID    uint64 // of the event
	Key   futago.Key
	At    int64 // arrival of the copy that made it
	Count [futago.Slots]uint64
	First [futago.Slots]int64 // earliest arrival
	Last  [futago.Slots]int64 // latest arrival
	// Rule is the rule that the event was made under. It stays with the event
	// when the settings change, so that what is in flight then still pairs.
	Rule RuleID
}

// Verdict is the outcome for one copy.
type Verdict struct {
	New    bool
	Reason futago.Reason
	// Group is the event after the copy was counted. It is valid until the next
	// call of any method.
	Group *Group
}

// Spill keeps what is known of open events that do not fit in memory, in cells
// with numbers, and gives back the events themselves: the data of an event is
// in its row of the history, which the caller updates after each verdict.
//
// An error of a Spill leaves the Judge in an undefined state: rebuild it.
type Spill interface {
	// PutCell replaces the content of a cell; nil empties it.
	PutCell(n uint32, content []byte) error
	// Cell returns what PutCell put last.
	Cell(n uint32) ([]byte, error)
	// Groups returns events by their ids, in the order of ids, as of the last
	// verdict. Those that are not in the history any more are left out.
	Groups(ids []uint64) ([]Group, error)
}

// rule is a futago.DedupRule in nanoseconds.
type rule struct {
	window       bool
	span         int64 // Window or PairWithin
	fold         int64
	asConfigured futago.DedupRule
}

// Judge holds the open events.
type Judge struct {
	limit   int
	next    uint64 // id that the next event will have, as far as known
	rules   []rule
	ruleIDs map[futago.DedupRule]RuleID

	marks [futago.Slots]marks
	seen  [futago.Slots]bool

	mem  table
	hand uint32 // where sweeping goes on

	disk disk

	out Group // what Verdict.Group points to

	// The constants of the same names; tests make them small.
	maxOpen, firstContact     int64
	maxOpenEvents, scanBeyond uint64
	segmentSize               int
}

// New returns a Judge that keeps at most limit open events in memory;
// limit <= 0 means DefaultLimit.
func New(limit int) *Judge {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Judge{
		limit: limit, next: 1, ruleIDs: make(map[futago.DedupRule]RuleID), mem: newTable(), hand: none,
		maxOpen: int64(MaxOpen), firstContact: int64(FirstContact), maxOpenEvents: MaxOpenEvents, scanBeyond: scanBeyond,
		segmentSize: segmentSize,
	}
}

// Rule returns the id of a rule. A mode that is not window is exact.
func (j *Judge) Rule(r futago.DedupRule) RuleID {
	if id, ok := j.ruleIDs[r]; ok {
		return id
	}
	x := rule{window: r.Mode == futago.ModeWindow, span: int64(r.PairWithin.D()), fold: max(int64(r.Fold.D()), 0), asConfigured: r}
	if x.window {
		x.span = int64(r.Window.D())
	}
	x.span = max(x.span, 0)
	id := RuleID(len(j.rules))
	j.rules = append(j.rules, x)
	j.ruleIDs[r] = id
	return id
}

// RuleOf returns the rule behind an id.
func (j *Judge) RuleOf(id RuleID) futago.DedupRule { return j.rules[id].asConfigured }

// Advance tells how far a manager's spool has been applied: every copy that it
// received up to watermark has been judged. next is the id that the next event
// will have. A watermark may go back, when a clock was set back; it then goes
// back for the events made from now on.
func (j *Judge) Advance(slot int, watermark int64, next uint64) {
	j.next = max(j.next, next)
	j.seen[slot] = true
	j.marks[slot].push(j.next, watermark)
	for m := range j.marks {
		if !j.seen[m] {
			j.marks[m].push(j.next, addTime(watermark, -j.firstContact))
		}
	}
}

// Horizon is the smallest event id that Rebuild must be given again.
func (j *Judge) Horizon() uint64 {
	for i := j.mem.oldest; i != none; i = j.mem.oldest {
		g := j.mem.group(i)
		if !j.expired(&g.Group) {
			return g.ID
		}
		j.free(i)
	}
	return j.next
}

// Stats is for metrics.
type Stats struct {
	Open    int // open events in memory, some of which may have expired
	Limit   int
	Spilled int // events that were put on disk and may still be open
}

// Stats returns the present numbers.
func (j *Judge) Stats() Stats {
	return Stats{Open: j.mem.len(), Limit: j.limit, Spilled: j.disk.records()}
}

// expired reports whether no copy can be counted for the event any more. Once
// true, it stays true: an expired event is not changed, and marks only rise for
// an event that exists.
func (j *Judge) expired(g *Group) bool {
	if j.next > g.ID && j.next-g.ID > j.maxOpenEvents {
		return true
	}
	var w [futago.Slots]int64
	oldest, newest := int64(math.MaxInt64), int64(math.MinInt64)
	latest := int64(math.MinInt64)
	for m := range w {
		w[m] = j.marks[m].since(g.ID)
		oldest, newest = min(oldest, w[m]), max(newest, w[m])
		if g.Count[m] > 0 {
			latest = max(latest, g.Last[m])
		}
	}
	if newest >= addTime(latest, j.maxOpen) {
		return true
	}
	r := &j.rules[g.Rule]
	if r.window {
		return oldest >= addTime(g.At, r.span)
	}
	for m := range w {
		if need, ok := r.until(g, m); ok && w[m] < need {
			return false
		}
	}
	return true
}

// until returns up to when copies of a slot can be counted for an event in
// exact mode, and false when none can.
func (r *rule) until(g *Group, m int) (t int64, ok bool) {
	o := 1 - m
	if r.fold > 0 {
		t, ok = addTime(g.base(m), r.fold), true
	}
	if g.Count[m] < g.Count[o] {
		if p := addTime(g.Last[o], r.span); !ok || p > t {
			t, ok = p, true
		}
	}
	return t, ok
}

// base is the time from which repeats are folded: the first copy of the same
// manager, so that clocks which differ do not matter, or else of the other.
func (g *Group) base(m int) int64 {
	if g.Count[m] > 0 {
		return g.First[m]
	}
	return g.First[1-m]
}

// lacks reports whether slot m has counted fewer copies than the other.
func (g *Group) lacks(m int) bool { return g.Count[m] < g.Count[1-m] }

// count adds a copy.
func (g *Group) count(m int, at int64) {
	if g.Count[m] == 0 {
		g.First[m], g.Last[m] = at, at
	} else {
		g.First[m], g.Last[m] = min(g.First[m], at), max(g.Last[m], at)
	}
	g.Count[m]++
}

// addTime adds without wrapping: copies carry whatever a clock said.
func addTime(t, d int64) int64 {
	s := t + d
	switch {
	case d > 0 && s < t:
		return math.MaxInt64
	case d < 0 && s > t:
		return math.MinInt64
	default:
		return s
	}
}

// apart is the distance of two times.
func apart(a, b int64) uint64 {
	if a > b {
		return uint64(a) - uint64(b)
	}
	return uint64(b) - uint64(a)
}
