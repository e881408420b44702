package raftfsm

import (
	"testing"
	"time"

	"github.com/futago/futago"
)

func TestPacer(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	for name, tc := range map[string]struct {
		own, other time.Duration // behind
		silent     time.Duration // of the other one
		want       bool
	}{
		"both keep up":              {time.Millisecond, 2 * time.Millisecond, 0, false},
		"both are behind":           {3 * time.Second, 3 * time.Second, 0, false},
		"the other is behind":       {2 * time.Second, 3 * time.Second, 0, true},
		"this one is":               {3 * time.Second, 2 * time.Second, 0, false},
		"the other replays":         {0, time.Minute, 0, false},
		"the other is silent":       {0, time.Second, time.Second, false},
		"the other was never there": {0, 0, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			for slot := range futago.Slots {
				var p pacer
				p.note(1-slot, tc.other, now.Add(-tc.silent))
				p.note(slot, tc.own, now)
				if got := p.ahead(slot, now); got != tc.want {
					t.Errorf("slot %d waits: %v", slot, got)
				}
			}
		})
	}
}
