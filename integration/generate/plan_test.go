package generate

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Plan{
			Seed: rapid.Uint64().Draw(t, "seed"), Rate: rapid.Float64Range(1, 1000).Draw(t, "rate"),
			Count: rapid.IntRange(1, 200).Draw(t, "count"),
			Burst: rapid.Float64Range(0, 1).Draw(t, "burst"), BurstMax: rapid.IntRange(0, 6).Draw(t, "max"),
			BurstGap: time.Duration(rapid.IntRange(0, 1000).Draw(t, "gap")),
			Again:    rapid.Float64Range(0, 0.8).Draw(t, "again"), AgainAfter: time.Second, AgainSpread: time.Second,
		}
		if err := p.validate(); err != nil {
			t.Fatal(err)
		}
		items := slices.Collect(p.Items())
		if diff := cmp.Diff(items, slices.Collect(p.Items())); diff != "" {
			t.Fatalf("the same plan differs: %s", diff)
		}
		last := make(map[uint32]Item)
		for i, it := range items {
			if i > 0 && it.At < items[i-1].At {
				t.Fatalf("item %d is before the one before it", i)
			}
			before, seen := last[it.Number]
			if it.Occurrence != before.Occurrence+1 || seen && (it.Flavour != before.Flavour || it.First != before.First) {
				t.Fatalf("%+v after %+v", it, before)
			}
			last[it.Number] = it
		}
		if len(last) != p.Count {
			t.Fatalf("%d distinct traps of %d", len(last), p.Count)
		}
	})
}

func TestPlanIsBounded(t *testing.T) {
	p := Plan{Rate: 100, Duration: time.Second}
	if n := len(slices.Collect(p.Items())); n != 100 {
		t.Errorf("%d items in one second at 100/s", n)
	}
	for _, bad := range []Plan{{Rate: 1}, {Count: 1}, {Rate: 1, Count: 1, Again: 1}, {Rate: 1, Count: 1, Mix: []Share{{}}}} {
		if bad.validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// Repeats really occur, in quick succession and much later.
func TestPlanRepeats(t *testing.T) {
	p := Plan{Rate: 1000, Count: 2000, Burst: 0.3, Again: 0.2, AgainAfter: 3 * time.Second}
	burst, again := 0, 0
	last := make(map[uint32]Item)
	for it := range p.Items() {
		if b, ok := last[it.Number]; ok {
			if it.At-b.At >= p.AgainAfter {
				again++
			} else if it.At == b.At {
				burst++
			} else {
				t.Fatalf("%+v after %+v", it, b)
			}
		}
		last[it.Number] = it
	}
	if burst < 1000 || again < 300 {
		t.Errorf("%d quick repeats and %d late ones of 2000 traps", burst, again)
	}
}
