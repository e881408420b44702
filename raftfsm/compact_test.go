package raftfsm

import (
	"testing"
)

func TestLogLimits_Trailing(t *testing.T) {
	l := logLimits{bytes: 1000, least: 10, most: 500, voteBytes: 5000, racing: 3}
	for name, c := range map[string]struct {
		average      int64
		last, needed uint64
		want         uint64
		forsaken     bool
	}{
		"by bytes":                     {10, 1000, 0, 100, false},
		"small entries":                {1, 1000, 0, 500, false},
		"large entries":                {900, 1000, 0, 10, false},
		"no size known":                {0, 1000, 0, 500, false},
		"the vote is near":             {10, 1000, 950, 100, false},
		"the vote is stuck":            {10, 1000, 800, 204, false},
		"the vote is stuck, at most":   {10, 1000, 504, 500, false},
		"the vote is stuck too far":    {10, 1000, 503, 100, true},
		"what it needs is not written": {10, 1000, 1001, 100, false},
	} {
		if got, forsaken := l.trailing(c.average, c.last, c.needed); got != c.want || forsaken != c.forsaken {
			t.Errorf("%s: %d, %v; want %d, %v", name, got, forsaken, c.want, c.forsaken)
		}
	}
}
