package dedup

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/futago/futago"
)

const ms = int64(time.Millisecond)

// rig feeds one judge and holds the rows of the history that it makes.
type rig struct {
	j     *Judge
	s     *memSpill
	limit int
	tune  func(*Judge)
	dir   []byte // the last directory
}

func newRig(limit int, tune func(*Judge)) *rig {
	r := &rig{j: New(limit), s: newMemSpill(), limit: limit, tune: tune}
	if tune != nil {
		tune(r.j)
	}
	return r
}

func (r *rig) judge(t fataler, c Copy, rule futago.DedupRule, next uint64) Verdict {
	t.Helper()
	v, err := r.j.Judge(c, r.j.Rule(rule), next, r.s)
	if err != nil {
		t.Fatal(err)
	}
	g := *v.Group
	if old := r.s.events[g.ID]; (old == nil) != v.New {
		t.Fatalf("event %d: new is %v", g.ID, v.New)
	}
	r.s.events[g.ID] = &g
	return v
}

// restart throws everything away but what a database would hold.
func (r *rig) restart(t fataler) {
	t.Helper()
	state, horizon := r.j.AppendState(nil), r.j.Horizon()
	if dir, changed := r.j.Directory(); changed {
		r.dir = dir
	}
	old := r.j
	j, err := Rebuild(r.limit, state, r.dir, func(j *Judge) {
		for i := range old.rules {
			j.Rule(old.rules[i].asConfigured)
		}
		if r.tune != nil {
			r.tune(j)
		}
	}, r.s.scanned(horizon))
	if err != nil {
		t.Fatal(err)
	}
	r.j = j
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

var testRules = []futago.DedupRule{
	{Mode: futago.ModeExact, PairWithin: futago.Duration(30 * ms), Fold: futago.Duration(5 * ms)},
	{Mode: futago.ModeExact, PairWithin: futago.Duration(20 * ms), Fold: 0},
	{Mode: futago.ModeExact, PairWithin: futago.Duration(4 * ms), Fold: futago.Duration(15 * ms)},
	{Mode: futago.ModeWindow, Window: futago.Duration(25 * ms)},
	{Mode: futago.ModeWindow, Window: futago.Duration(3 * ms)},
}

// TestJudge_Model is the central property: whatever is kept in memory, whenever
// it is cleared, and however often the judge is rebuilt, the verdicts are those
// of the plain rules.
func TestJudge_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mod := &model{next: 1, maxOpen: rapid.SampledFrom([]int64{35, 90}).Draw(t, "max open") * ms, firstContact: 60 * ms, maxOpenEvents: uint64(rapid.SampledFrom([]int{40, 1000}).Draw(t, "max events"))}
		tune := func(j *Judge) {
			j.maxOpen, j.firstContact, j.maxOpenEvents = mod.maxOpen, mod.firstContact, mod.maxOpenEvents
			j.scanBeyond, j.segmentSize = 3, 6
		}
		rigs := map[string]*rig{}
		for _, limit := range []int{1, 3, 10, 1000} {
			rigs[fmt.Sprint(limit)] = newRig(limit, tune)
			rigs[fmt.Sprint(limit, " with restarts")] = newRig(limit, tune)
		}
		names := slices.Sorted(maps.Keys(rigs))
		every := rapid.IntRange(1, 20).Draw(t, "restart every")
		// Keys may change their rule in the middle, as after a change of settings.
		ruleOf := map[futago.Key]futago.DedupRule{}
		rule := func(k futago.Key) futago.DedupRule {
			if _, ok := ruleOf[k]; !ok {
				ruleOf[k] = rapid.SampledFrom(testRules).Draw(t, "rule")
			}
			return ruleOf[k]
		}
		now := [2]int64{1000 * ms, 1000 * ms}
		next := uint64(1)
		step := 0
		t.Repeat(map[string]func(*rapid.T){
			"copy": func(t *rapid.T) {
				slot := rapid.IntRange(0, 1).Draw(t, "slot")
				now[slot] += rapid.Int64Range(0, 6).Draw(t, "later") * ms
				k := rapid.IntRange(0, 3).Draw(t, "key")
				// Some keys begin alike.
				c := Copy{Key: futago.Key{byte(k % 2), 15: byte(k)}, Slot: slot, At: now[slot]}
				want, why := mod.judge(c, rule(c.Key), next)
				match := why == futago.ReasonFirst && rapid.Bool().Draw(t, "match")
				for _, name := range names {
					r := rigs[name]
					if match {
						if v, known, err := r.j.Match(c, next, r.s); known || err != nil {
							t.Fatalf("limit %s: matched event %d, %v", name, v.Group.ID, err)
						}
					}
					v := r.judge(t, c, rule(c.Key), next)
					got := *v.Group
					got.Rule = 0
					if v.Reason != why {
						t.Fatalf("limit %s: %v for event %d, want %v for %d", name, v.Reason, got.ID, why, want.ID)
					}
					model := want.Group
					model.count(c.Slot, c.At)
					if diff := cmp.Diff(model, got); diff != "" {
						t.Fatalf("limit %s: %s", name, diff)
					}
					if n := r.j.mem.len(); n > r.limit {
						t.Fatalf("limit %s: %d events in memory", name, n)
					}
				}
				want.count(c.Slot, c.At)
				if why == futago.ReasonFirst {
					next++
				}
			},
			"storm":          func(t *rapid.T) { now[rapid.IntRange(0, 1).Draw(t, "slot")]++ },
			"internal event": func(*rapid.T) { next++ },
			"watermark": func(t *rapid.T) {
				slot := rapid.IntRange(0, 1).Draw(t, "slot")
				at := now[slot] - rapid.SampledFrom([]int64{0, 0, 0, 1, 10}).Draw(t, "behind")*ms
				mod.advance(slot, at, next)
				for _, r := range rigs {
					r.j.Advance(slot, at, next)
				}
			},
			"clock step": func(t *rapid.T) {
				now[rapid.IntRange(0, 1).Draw(t, "slot")] += rapid.Int64Range(-120, 120).Draw(t, "step") * ms
			},
			"peer comes back": func(t *rapid.T) {
				// One manager's spool lags: its time stands while the other's runs.
				now[rapid.IntRange(0, 1).Draw(t, "slot")] = min(now[0], now[1])
			},
			"settings": func(t *rapid.T) {
				clear(ruleOf)
			},
			"tidy": func(t *rapid.T) {
				for _, r := range rigs {
					if err := r.j.Tidy(r.s); err != nil {
						t.Fatal(err)
					}
				}
			},
			"": func(t *rapid.T) {
				step++
				if step%every == 0 {
					for name, r := range rigs {
						if len(name) > 5 {
							r.restart(t)
						}
					}
				}
			},
		})
	})
}

// exactRule and windowRule have the times of the defaults.
var (
	exactRule  = futago.DefaultDedupRule()
	windowRule = futago.DedupRule{Mode: futago.ModeWindow, Window: futago.Duration(30 * time.Second)}
)

// story is a table of copies with what should become of each.
type story struct {
	slot  int
	at    time.Duration
	event uint64
	why   futago.Reason
}

func TestJudge_Stories(t *testing.T) {
	const a, b = 0, 1
	s := time.Second
	noFold := exactRule
	noFold.Fold = 0
	tests := []struct {
		name  string
		rule  futago.DedupRule
		steps []story
	}{
		{"both receive it", exactRule, []story{
			{a, 100 * s, 1, futago.ReasonFirst}, {b, 100*s + 1, 1, futago.ReasonPaired},
		}},
		{"true repeats are folded within a second and counted by both", exactRule, []story{
			{a, 100 * s, 1, futago.ReasonFirst},
			{a, 100*s + 5, 1, futago.ReasonRepeat},
			{b, 100 * s, 1, futago.ReasonPaired},
			{b, 100*s + 5, 1, futago.ReasonPaired},
			{a, 102 * s, 2, futago.ReasonFirst},
			{b, 102 * s, 2, futago.ReasonPaired},
		}},
		{"clocks that differ by 5 s", exactRule, []story{
			{a, 100 * s, 1, futago.ReasonFirst},
			{b, 95 * s, 1, futago.ReasonPaired},
			{b, 95*s + 5, 1, futago.ReasonRepeat},
			{a, 100*s + 5, 1, futago.ReasonPaired},
		}},
		{"one manager missed one", exactRule, []story{
			{a, 100 * s, 1, futago.ReasonFirst},
			{a, 110 * s, 2, futago.ReasonFirst},
			{b, 110 * s, 1, futago.ReasonPaired},
			{a, 120 * s, 3, futago.ReasonFirst},
			{b, 120 * s, 2, futago.ReasonPaired},
		}},
		{"too far apart to be the same occurrence", exactRule, []story{
			{a, 100 * s, 1, futago.ReasonFirst}, {b, 131 * s, 2, futago.ReasonFirst},
		}},
		{"no folding", noFold, []story{
			{a, 100 * s, 1, futago.ReasonFirst},
			{a, 100 * s, 2, futago.ReasonFirst},
			{b, 100 * s, 1, futago.ReasonPaired},
			{b, 100 * s, 2, futago.ReasonPaired},
		}},
		{"window", windowRule, []story{
			{a, 100 * s, 1, futago.ReasonFirst},
			{b, 100 * s, 1, futago.ReasonWindow},
			{a, 129 * s, 1, futago.ReasonWindow},
			{a, 130 * s, 2, futago.ReasonFirst},
			{b, 129 * s, 1, futago.ReasonWindow},
			{b, 130 * s, 2, futago.ReasonWindow},
			{b, 71 * s, 1, futago.ReasonWindow},
			{b, 70 * s, 3, futago.ReasonFirst},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(0, nil)
			next := uint64(1)
			for i, st := range tt.steps {
				v := r.judge(t, Copy{Slot: st.slot, At: int64(st.at)}, tt.rule, next)
				if v.Group.ID != st.event || v.Reason != st.why {
					t.Fatalf("step %d: event %d, %v; want %d, %v", i, v.Group.ID, v.Reason, st.event, st.why)
				}
				if v.New {
					next++
				}
			}
		})
	}
}

// TestJudge_PeerAway lets one manager be away for hours while the other
// receives far more than fits in memory, and come back with its spool.
func TestJudge_PeerAway(t *testing.T) {
	const events, limit = 20_000, 500
	tune := func(j *Judge) { j.scanBeyond, j.segmentSize = 1000, 300 }
	at := func(i int) int64 { return int64(i) * int64(time.Second) }
	key := func(i int) futago.Key { return futago.Key{byte(i % 7), byte(i % 300), byte(i % 300 >> 8)} }
	for _, replay := range []int{events, events / 2} {
		r := newRig(limit, tune)
		r.j.Advance(1, 0, 1)
		next := uint64(1)
		tidy := func(i, every int) {
			t.Helper()
			if err := r.j.Tidy(r.s); err != nil {
				t.Fatal(err)
			}
			if i%every == every-1 {
				r.restart(t)
			}
		}
		for i := range events {
			if v := r.judge(t, Copy{Key: key(i), Slot: 0, At: at(i)}, exactRule, next); !v.New {
				t.Fatalf("copy %d became part of event %d", i, v.Group.ID)
			}
			next++
			if i%50 == 49 {
				r.j.Advance(0, at(i), next)
				tidy(i, 1000)
			}
		}
		if n := r.j.Stats().Spilled; n < events-limit || n != len(cells(r)) {
			t.Fatalf("%d events are spilled, and %d in the cells", n, len(cells(r)))
		}
		if r.s.reads > len(r.s.cells) {
			t.Errorf("live traffic read cells %d times", r.s.reads)
		}
		r.s.reads = 0
		for i := range replay {
			v := r.judge(t, Copy{Key: key(i), Slot: 1, At: at(i) + 3*ms}, exactRule, next)
			if v.Reason != futago.ReasonPaired || v.Group.ID != uint64(i+1) {
				t.Fatalf("late copy %d: %v, event %d", i, v.Reason, v.Group.ID)
			}
			if i%50 == 49 {
				r.j.Advance(1, at(i), next)
				tidy(i, 5000)
			}
		}
		if n := r.s.reads; n > 2*events/300 {
			t.Errorf("the replay read cells %d times", n)
		}
		// The peer has nothing more to tell: everything closes and is cleared away.
		r.j.Advance(1, at(events+60), next)
		r.j.Advance(0, at(events+60), next)
		tidy(0, 1)
		if got := r.j.Horizon(); got != next {
			t.Errorf("horizon %d, want %d", got, next)
		}
		if len(r.s.cells) > 0 || r.j.Stats().Spilled > 0 {
			t.Errorf("%d cells are left in the spill", len(r.s.cells))
		}
	}
}

func cells(r *rig) (all []byte) {
	for _, b := range r.s.cells {
		all = append(all, make([]byte, len(b)/recordSize)...)
	}
	return all
}

// TestJudge_OpenForLastRepeat: an event waits for the counterpart of its last
// repeat, not of its first copy.
func TestJudge_OpenForLastRepeat(t *testing.T) {
	r := newRig(0, nil)
	rule := futago.DedupRule{Mode: futago.ModeExact, PairWithin: futago.Duration(4 * ms), Fold: futago.Duration(15 * ms)}
	r.judge(t, Copy{At: 0}, rule, 1)
	r.judge(t, Copy{At: 14 * ms}, rule, 2)
	r.j.Advance(0, 100*ms, 2)
	r.j.Advance(1, 16*ms, 2)
	if v := r.judge(t, Copy{Slot: 1, At: 17 * ms}, rule, 2); v.Reason != futago.ReasonPaired {
		t.Errorf("got %v", v.Reason)
	}
}

// TestJudge_ClockSetBack: a manager whose clock ran an hour ahead and was put
// right pairs again at once.
func TestJudge_ClockSetBack(t *testing.T) {
	r := newRig(0, nil)
	hour, now := int64(time.Hour), int64(1000*time.Hour)
	r.j.Advance(0, now, 1)
	r.j.Advance(1, now+hour, 1)
	r.j.Advance(1, now, 1)
	r.judge(t, Copy{Slot: 0, At: now + 1}, exactRule, 1)
	r.j.Advance(1, now+1, 2)
	if v := r.judge(t, Copy{Slot: 1, At: now + 2}, exactRule, 2); v.Reason != futago.ReasonPaired {
		t.Errorf("got %v", v.Reason)
	}
	r.restart(t)
	if v := r.judge(t, Copy{Slot: 1, At: now + 3}, exactRule, 2); v.Reason != futago.ReasonRepeat {
		t.Errorf("got %v", v.Reason)
	}
}

// TestJudge_Extremes feeds times that no sane clock has.
func TestJudge_Extremes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(4, nil)
		next := uint64(1)
		times := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{-1 << 63, 1<<63 - 1, 0}))
		for range 50 {
			slot := rapid.IntRange(0, 1).Draw(t, "slot")
			v := r.judge(t, Copy{Slot: slot, At: times.Draw(t, "at")}, rapid.SampledFrom(testRules).Draw(t, "rule"), next)
			if v.New {
				next++
			}
			if rapid.Bool().Draw(t, "advance") {
				r.j.Advance(slot, times.Draw(t, "watermark"), next)
				if err := r.j.Tidy(r.s); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.restart(t)
	})
}

func TestRebuild_BadState(t *testing.T) {
	r := newRig(1, nil)
	for i := range uint64(5) {
		r.judge(t, Copy{Key: futago.Key{byte(i)}, At: 1}, exactRule, i+1)
	}
	state := r.j.AppendState(nil)
	dir, _ := r.j.Directory()
	none := func(func(Group, error) bool) {}
	for name, tt := range map[string]struct {
		state, dir []byte
		want       futago.Code
	}{
		"good":                    {state, dir, ""},
		"state cut":               {state[:len(state)-1], dir, futago.CodeCorrupt},
		"state with more":         {append(slices.Clip(state), 0), dir, futago.CodeCorrupt},
		"directory cut":           {state, dir[:len(dir)-1], futago.CodeCorrupt},
		"directory with more":     {state, append(slices.Clip(dir), 0), futago.CodeCorrupt},
		"state of later form":     {append([]byte{9}, state[1:]...), dir, futago.CodeIncompatible},
		"directory in later form": {state, append([]byte{9}, dir[1:]...), futago.CodeIncompatible},
	} {
		if _, err := Rebuild(5, tt.state, tt.dir, func(*Judge) {}, none); futago.CodeOf(err) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	clear(r.s.cells)
	r.j.disk.cache = nil
	if _, err := r.j.Judge(Copy{Key: futago.Key{1}, Slot: 1, At: 1}, 0, 9, r.s); futago.CodeOf(err) != futago.CodeCorrupt {
		t.Errorf("a cell is gone: %v", err)
	}
}
