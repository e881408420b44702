package integration_test

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// reign is who leads, and in which term. Tests of faults that must change
// neither hold on to it.
type reign struct {
	s      *site
	leader string
	term   uint64
	since  time.Time
	waited time.Duration
}

func (s *site) reign(leader string) reign {
	s.t.Helper()
	return reign{s: s, leader: leader, term: s.term(leader), since: time.Now(), waited: processorWaits()}
}

// goesOn checks that the leader and the term are what they were, give or take
// so many elections.
func (r reign) goesOn(elections uint64) {
	r.s.t.Helper()
	if r.crowded() {
		// Time-outs of a third of a second prove nothing then.
		r.s.t.Log("other programs took the processors meanwhile: terms are not looked at")
		return
	}
	if got := r.s.term(r.leader); got > r.term+elections {
		r.s.t.Errorf("the term rose from %d to %d within %s", r.term, got, time.Since(r.since).Round(time.Millisecond))
	}
	if got := r.s.leads(r.leader); elections == 0 && got != r.leader {
		r.s.t.Errorf("%s led, now %s leads", r.leader, got)
	}
}

// crowded reports whether some process waited for a processor during most of
// the time: somebody else is at work on this machine.
func (r reign) crowded() bool {
	return processorWaits()-r.waited > time.Since(r.since)/2
}

// processorWaits is how long, since the machine's start, some process had to
// wait for a processor; 0 where the kernel does not count it.
func processorWaits() time.Duration {
	b, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var us int64
		if i := strings.LastIndex(line, "total="); strings.HasPrefix(line, "some ") && i >= 0 {
			if _, err := fmt.Sscanf(line[i:], "total=%d", &us); err == nil {
				return time.Duration(us) * time.Microsecond
			}
		}
	}
	return 0
}
