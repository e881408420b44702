package model

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// deep is far beyond what can be searched.
var deep = Bounds{Terms: 15, Log: 8, Messages: 4, Writes: 3, Crashes: 7, DiskLosses: 2, Duplicates: true, Reads: true}

func TestModel_Walk_Rules(t *testing.T) {
	for name, b := range map[string]Bounds{
		"all faults":   deep,
		"no disk lost": {Terms: 15, Log: 8, Messages: 4, Writes: 3, Crashes: 7, Duplicates: true, Reads: true},
		"restored":     {Terms: 12, Log: 8, Messages: 3, Writes: 3, Crashes: 3, Restore: RestoreSeen},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Model{Bounds: b}
			rapid.Check(t, func(t *rapid.T) {
				choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "step") }
				violation, trace, err := m.Walk(200, choose)
				if err != nil {
					t.Fatal(err)
				}
				if violation != "" {
					t.Fatalf("%s:\n%s", violation, trace)
				}
			})
		})
	}
}

// rapid prefers small numbers, which are shorter schedules; these are uniform.
func TestModel_Walk_Rules_Uniform(t *testing.T) {
	walks := 3000
	if testing.Short() {
		walks = 300
	}
	m := &Model{Bounds: deep}
	longest := 0
	for k := range walks {
		violation, trace, err := m.Walk(150, rand.New(rand.NewPCG(uint64(k), 0)).IntN)
		if err != nil {
			t.Fatal(err)
		}
		if violation != "" {
			t.Fatalf("walk %d: %s:\n%s", k, violation, trace)
		}
		longest = max(longest, len(trace))
	}
	if longest < 100 {
		t.Errorf("the longest of %d walks has %d steps", walks, longest)
	}
}

// Walks can find something: most controls are broken within a few of them.
func TestModel_Walk_FindsControls(t *testing.T) {
	const walks, steps = 10_000, 60
	for _, c := range controls() {
		if !c.walked {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			m := &Model{Bounds: c.b, Switches: c.sw}
			for k := range walks {
				violation, trace, err := m.Walk(steps, rand.New(rand.NewPCG(uint64(k), 1)).IntN)
				if err != nil {
					t.Fatal(err)
				}
				if violation != "" {
					t.Logf("walk %d, %d steps: %s", k+1, len(trace), violation)
					return
				}
			}
			t.Errorf("nothing in %d walks", walks)
		})
	}
}

// A packed state is the state.
func TestState_Pack_RoundTrip(t *testing.T) {
	for _, b := range []Bounds{
		{Terms: 7, Log: 4, Messages: 4, Writes: 3, Crashes: 7, DiskLosses: 2, Duplicates: true, Reads: true},
		{Terms: 5, Log: 4, Messages: 4, Writes: 3, Restore: RestoreAny},
	} {
		m := &Model{Bounds: b}
		rapid.Check(t, func(t *rapid.T) {
			s := initial()
			for range 60 {
				var next []state
				x := stepper{m: m}
				x.yield = func(u *state) {
					m.canonical(u)
					next = append(next, *u)
				}
				x.successors(&s)
				if len(next) == 0 {
					return
				}
				s = next[rapid.IntRange(0, len(next)-1).Draw(t, "step")]
				if s.rec.version.number > 30 {
					return // more than a search of this depth can write
				}
				p := pack(&s)
				if got := unpack(&p); got != s {
					t.Fatal(cmp.Diff(s, got, cmp.AllowUnexported(state{}, node{}, record{}, version{}, message{}, write{})))
				}
				mirror := swapped(&s)
				if twice := swapped(&mirror); twice != s {
					t.Fatal("the mirror image of the mirror image is another state")
				}
				if m.key(&mirror) != m.key(&s) {
					t.Fatal("a state and its mirror image differ")
				}
			}
		})
	}
}

func TestModel_Walk_Bounds(t *testing.T) {
	if _, _, err := (&Model{Bounds: Bounds{Log: 9}, Switches: rules.Switches{}}).Walk(1, nil); err == nil {
		t.Error("a log that cannot be held was taken")
	}
}
