package model

import (
	"os"
	"testing"
	"time"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// mustSearch is Search for tests.
func (m *Model) mustSearch(t testing.TB, limits Limits) Result {
	t.Helper()
	r, err := m.Search(t.Context(), limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v: %v", m.Bounds, r)
	return r
}

// The rules as they are: no schedule within these bounds loses anything.
func TestModel_Rules_Complete(t *testing.T) {
	for name, b := range map[string]Bounds{
		"everything, two terms": {Terms: 2, Log: 2, Messages: 1, Writes: 1, Crashes: 1, DiskLosses: 1, Reads: true},
		"both disks lost":       {Terms: 2, Log: 2, Messages: 1, Writes: 1, Crashes: 1, DiskLosses: 2},
		"crash":                 {Terms: 3, Log: 2, Messages: 1, Writes: 1, Crashes: 1},
		"disk lost":             {Terms: 3, Log: 2, Messages: 0, Writes: 1, DiskLosses: 1},
		"reads":                 {Terms: 3, Log: 2, Messages: 1, Writes: 1, Reads: true},
		"duplicates":            {Terms: 3, Log: 2, Messages: 1, Writes: 1, Duplicates: true},
		"more delay":            {Terms: 2, Log: 2, Messages: 2, Writes: 2},
		"two writes under way":  {Terms: 3, Log: 2, Messages: 1, Writes: 2},
		"three entries":         {Terms: 3, Log: 3, Messages: 0, Writes: 1, Crashes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "more delay" {
				t.Skip("short")
			}
			m := &Model{Bounds: b}
			r := m.mustSearch(t, Limits{States: 4_000_000, Time: 5 * time.Minute})
			if r.Violation != "" {
				t.Fatalf("%s:\n%s", r.Violation, r.Trace)
			}
			if !r.Complete {
				t.Error("not searched to the end")
			}
			if r.States < 50_000 {
				t.Errorf("only %d states: what was searched?", r.States)
			}
		})
	}
}

// A register that was restored from a backup after both managers had seen the
// newest version: refused, also with writes under way.
func TestModel_Rules_RestoredAfterSeen(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	m := &Model{Bounds: Bounds{Terms: 2, Log: 2, Messages: 0, Writes: 1, Restore: RestoreSeen}}
	r := m.mustSearch(t, Limits{States: 400_000, Time: 5 * time.Minute})
	if r.Violation != "" {
		t.Fatalf("%s:\n%s", r.Violation, r.Trace)
	}
	if r.Depth < 12 {
		t.Errorf("depth %d", r.Depth)
	}
}

// What one register cannot repair, and the handbook warns of: restored before
// the other manager has seen the newest version.
func TestModel_Restored_BeforeSeen_Loses(t *testing.T) {
	m := &Model{Bounds: Bounds{Terms: 3, Log: 2, Messages: 1, Writes: 1, Restore: RestoreAny}}
	if r := m.mustSearch(t, Limits{States: 1_000_000}); len(r.Trace) != 7 {
		t.Errorf("%d steps:\n%s", len(r.Trace), r.Trace)
	}
}

// Larger bounds, for a machine with time and 8 GB: FUTAGO_MODEL=large
// go test -run Large -timeout 10h.
func TestModel_Rules_Large(t *testing.T) {
	if os.Getenv("FUTAGO_MODEL") != "large" {
		t.Skip("FUTAGO_MODEL is not large")
	}
	for name, b := range map[string]Bounds{
		"four terms, two crashes": {Terms: 4, Log: 3, Messages: 1, Writes: 1, Crashes: 2},
		"more delay":              {Terms: 3, Log: 2, Messages: 2, Writes: 2, Crashes: 1},
		"disk lost, delays":       {Terms: 3, Log: 2, Messages: 1, Writes: 1, DiskLosses: 1},
		"duplicates":              {Terms: 3, Log: 3, Messages: 1, Writes: 1, Crashes: 1, Duplicates: true},
		"disk lost":               {Terms: 3, Log: 3, Messages: 1, Writes: 1, Crashes: 1, DiskLosses: 1},
		"both disks lost":         {Terms: 3, Log: 2, Messages: 1, Writes: 1, Crashes: 1, DiskLosses: 2},
		"two writes, four terms":  {Terms: 4, Log: 3, Messages: 1, Writes: 2, Crashes: 1},
		"reads":                   {Terms: 3, Log: 3, Messages: 1, Writes: 1, Crashes: 1, DiskLosses: 1, Reads: true},
		"restored":                {Terms: 3, Log: 2, Messages: 1, Writes: 1, Crashes: 1, Restore: RestoreSeen},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Model{Bounds: b}
			if r := m.mustSearch(t, Limits{States: 80_000_000}); r.Violation != "" {
				t.Fatalf("%s:\n%s", r.Violation, r.Trace)
			}
		})
	}
}

// control is a part of a rule that is taken out of force, and the length of
// the shortest schedule that then breaks something.
type control struct {
	name   string
	sw     rules.Switches
	b      Bounds
	steps  int
	walked bool // random walks find it soon
}

func controls() []control {
	plain := Bounds{Terms: 3, Log: 2, Messages: 1, Writes: 1}
	long := Bounds{Terms: 3, Log: 3, Messages: 1, Writes: 1}
	lossy := Bounds{Terms: 3, Log: 3, Messages: 1, Writes: 1, DiskLosses: 1}
	reads := Bounds{Terms: 3, Log: 2, Messages: 1, Writes: 1, Reads: true}
	return []control{
		{"R1 no condition", rules.Switches{R1NoCondition: true}, plain, 4, true},
		{"R2 no term condition", rules.Switches{R2NoTermCondition: true}, plain, 7, true},
		{"R2 by reading", rules.Switches{R2ByReading: true}, long, 9, false},
		{"R2 not bound to the term", rules.Switches{R2NotBound: true}, Bounds{Terms: 4, Log: 3}, 14, false},
		{"R3 keep solo", rules.Switches{R3KeepSolo: true}, long, 8, true},
		{"R3 no barrier", rules.Switches{R3NoBarrier: true}, long, 8, true},
		{"R3 thaw", rules.Switches{R3Thaw: true}, long, 11, false},
		{"R3 identity after the barrier only", rules.Switches{R3NoFirstIdentity: true}, lossy, 10, false},
		{"R4 any candidate", rules.Switches{R4AnyCandidate: true}, plain, 5, true},
		{"R4 two votes", rules.Switches{R4VoteTwice: true}, plain, 5, true},
		{"R4 without comparing", rules.Switches{R4Blind: true}, plain, 7, true},
		{"R4 any identity, R6 campaign", rules.Switches{R4AnyIdentity: true, R6Campaign: true}, lossy, 3, true},
		{"R5 no evidence", rules.Switches{R5NoEvidence: true}, reads, 8, false},
		{"R6 own low term", rules.Switches{R6KeepTerm: true}, lossy, 8, false},
		{"R6 vote", rules.Switches{R6Vote: true}, lossy, 6, true},
		{"R6 campaign", rules.Switches{R6Campaign: true}, lossy, 3, true},
		{"R7 no mark", rules.Switches{R7NoMark: true}, Bounds{Terms: 3, Log: 2, Messages: 1, Writes: 1, Restore: RestoreSeen}, 8, true},
		{"R7 overtaken writes count", rules.Switches{R7Overtaken: true}, Bounds{Terms: 2, Log: 2, Messages: 0, Writes: 1, Restore: RestoreSeen}, 12, false},
		{"R8 being leader is enough", rules.Switches{R8LeaderIsEnough: true}, reads, 8, false},
		{"R8 no entry of the own term", rules.Switches{R8NoOwnTerm: true}, reads, 5, true},
	}
}

// Each part of a rule is needed: without it the model finds a violation, in
// the number of steps that is written here.
func TestModel_Control(t *testing.T) {
	for _, c := range controls() {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.steps > 9 {
				t.Skip("short")
			}
			m := &Model{Bounds: c.b, Switches: c.sw}
			r := m.mustSearch(t, Limits{States: 4_000_000, Time: 5 * time.Minute})
			if r.Violation == "" || len(r.Trace) != c.steps {
				t.Fatalf("%q in %d steps, not %d:\n%s", r.Violation, len(r.Trace), c.steps, r.Trace)
			}
		})
	}
}

// In the bounds of the controls, and at least as deep, the whole rules lose
// nothing.
func TestModel_Control_WholeRules(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	deepest := map[Bounds]int{}
	for _, c := range controls() {
		deepest[c.b] = max(deepest[c.b], c.steps)
	}
	for b, steps := range deepest {
		r := (&Model{Bounds: b}).mustSearch(t, Limits{States: 600_000, Time: 5 * time.Minute})
		if r.Violation != "" {
			t.Fatalf("%s:\n%s", r.Violation, r.Trace)
		}
		if !r.Complete && r.Depth < steps {
			t.Errorf("%+v: depth %d, and a control needs %d", b, r.Depth, steps)
		}
	}
}

// Two switches change nothing that matters here: the identity that counts is
// the one asked before the barrier, and a candidate with another directory is
// unadmitted as well.
func TestModel_RedundantSwitches(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	for name, sw := range map[string]rules.Switches{
		"R3 no second identity": {R3NoSecondIdentity: true},
		"R4 any identity":       {R4AnyIdentity: true},
	} {
		m := &Model{Bounds: Bounds{Terms: 2, Log: 3, Messages: 0, Writes: 1, DiskLosses: 1}, Switches: sw}
		if r := m.mustSearch(t, Limits{}); r.Violation != "" {
			t.Errorf("%s: %s:\n%s", name, r.Violation, r.Trace)
		}
	}
}

// Reductions must not hide anything: without them the same violations come in
// the same number of steps.
func TestModel_Reductions_HideNothing(t *testing.T) {
	for _, c := range controls() {
		if c.steps > 8 || testing.Short() && c.steps > 6 {
			continue
		}
		m := &Model{Bounds: c.b, Switches: c.sw, plain: true}
		r := m.mustSearch(t, Limits{States: 3_000_000})
		if r.Violation == "" || len(r.Trace) != c.steps {
			t.Errorf("%s: %q in %d steps, not %d:\n%s", c.name, r.Violation, len(r.Trace), c.steps, r.Trace)
		}
	}
	b := Bounds{Terms: 2, Log: 2, Messages: 1, Writes: 1}
	reduced := (&Model{Bounds: b}).mustSearch(t, Limits{})
	whole := (&Model{Bounds: b, plain: true}).mustSearch(t, Limits{})
	if !reduced.Complete || !whole.Complete || whole.Violation != "" || whole.States < reduced.States {
		t.Errorf("reduced: %v\nwhole: %v", reduced, whole)
	}
}

// A search that finds nothing must have been where things can go wrong.
func TestModel_Reaches(t *testing.T) {
	some := func(s *state, ok func(i int, n, peer *node) bool) bool {
		return ok(0, &s.n[0], &s.n[1]) || ok(1, &s.n[1], &s.n[0])
	}
	wants := map[string]func(s *state) bool{
		"an entry on the only holder alone": func(s *state) bool {
			return some(s, func(i int, n, peer *node) bool {
				return s.rec.holders == 1<<i && n.commit > peer.len && n.commit == s.acked
			})
		},
		"a new directory led, with all that was acknowledged": func(s *state) bool {
			return some(s, func(_ int, n, _ *node) bool {
				return n.ident == 1 && n.admitted && n.role == leader && n.term > 1 && n.len >= s.acked && s.acked > 0
			})
		},
		"two who take themselves for leaders": func(s *state) bool { return s.n[0].role == leader && s.n[1].role == leader },
		"both hold again, and the peer leads by w after a solo entry": func(s *state) bool {
			return some(s, func(i int, n, _ *node) bool {
				return n.role == leader && s.rec.holders == 3 && s.rec.term == n.term && int(s.rec.vote) == i+1 && s.acked >= 2 &&
					s.ackedIn[0] < n.term && s.rec.ident[i] == n.ident
			})
		},
		"the register's term is above a leader's": func(s *state) bool {
			return some(s, func(_ int, n, _ *node) bool { return n.role == leader && s.rec.term > n.term })
		},
		"a leader that is no holder": func(s *state) bool {
			return some(s, func(i int, n, _ *node) bool { return n.role == leader && s.rec.holders&(1<<i) == 0 })
		},
		"a write under way whose sender is gone": func(s *state) bool {
			return s.nWrites > 0 && s.writes[0].state == underWay && !s.writes[0].attended && s.n[s.writes[0].owner].role == follower
		},
		"an uncommitted entry is replaced": func(s *state) bool {
			return some(s, func(_ int, n, peer *node) bool { return n.len > 0 && peer.len > 0 && n.log[0] != peer.log[0] })
		},
	}
	m := &Model{Bounds: Bounds{Terms: 2, Log: 2, Messages: 1, Writes: 1, DiskLosses: 1}}
	seen := map[string]int{}
	m.visit = func(s *state) {
		for name, ok := range wants {
			if ok(s) {
				seen[name]++
			}
		}
	}
	m.mustSearch(t, Limits{})
	for name := range wants {
		if seen[name] == 0 {
			t.Errorf("never: %s", name)
		}
		t.Logf("%7d states: %s", seen[name], name)
	}
}

func TestModel_Search_Limits(t *testing.T) {
	m := &Model{Bounds: Bounds{Terms: 3, Log: 2, Messages: 1, Writes: 1}}
	if r := m.mustSearch(t, Limits{States: 1000}); r.Complete || r.States > 1000+200*checkEvery {
		t.Errorf("%v", r)
	}
	for _, b := range []Bounds{{Terms: 8}, {Log: 5}, {Messages: 5}, {Writes: 4}, {Crashes: 8}, {DiskLosses: 3}} {
		if _, err := (&Model{Bounds: b}).Search(t.Context(), Limits{}); err == nil {
			t.Errorf("%+v was taken", b)
		}
	}
}

func BenchmarkModel_Search(b *testing.B) {
	for b.Loop() {
		r, err := (&Model{Bounds: Bounds{Terms: 2, Log: 2, Messages: 1, Writes: 1, Crashes: 1}}).Search(b.Context(), Limits{})
		if err != nil || r.Violation != "" {
			b.Fatal(r, err)
		}
		b.ReportMetric(float64(r.States)/r.Elapsed.Seconds(), "states/s")
	}
}
