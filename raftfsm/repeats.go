package raftfsm

import (
	"strings"
	"sync"
	"time"
)

// repeats keeps a log from saying the same thing many times a second: a peer
// that is down for a night is one line a minute. It is safe for concurrent use.
type repeats struct {
	now func() time.Time

	mu   sync.Mutex // guards seen
	seen map[string]*repeat
}

// repeat is a line that was logged at a time, and how often it came since.
type repeat struct {
	at    time.Time
	since int
}

// Bounds of what is remembered.
const (
	repeatPause = time.Minute
	repeatLimit = 256
)

func newRepeats(now func() time.Time) *repeats {
	return &repeats{now: now, seen: map[string]*repeat{}}
}

// logs reports whether a line is due, and how many like it were left out since
// the last one. Digits make no difference: ports and times change each time.
func (r *repeats) logs(line string) (left int, ok bool) {
	key := strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return -1
		}
		return c
	}, line)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	was := r.seen[key]
	if was != nil && now.Sub(was.at) < repeatPause {
		was.since++
		return 0, false
	}
	if was != nil {
		left = was.since
	}
	if len(r.seen) >= repeatLimit {
		clear(r.seen)
	}
	r.seen[key] = &repeat{at: now}
	return left, true
}
