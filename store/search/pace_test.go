package search

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		p := &pace{tick: tick.C}
		newest := uint64(5_000_000)
		for i, step := range []struct {
			arrived uint64
			want    time.Duration
		}{
			{0, 25 * time.Millisecond}, // the history that was there is no arrival
			{9_000, 25 * time.Millisecond},
			{10_001, 200 * time.Millisecond},
			{30_000, 200 * time.Millisecond},
			{0, 25 * time.Millisecond},
		} {
			newest += step.arrived
			time.Sleep(time.Second)
			synctest.Wait()
			if got := p.after(500, 20_000, newest); got != step.want {
				t.Errorf("second %d: %v after 500 events, want %v", i, got, step.want)
			}
		}
		if got := p.after(500, 20_000, newest+1<<20); got != 25*time.Millisecond {
			t.Errorf("%v within the same second", got)
		}
	})
}
