package raftfsm

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRaftLogger_Repeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newRaftLogger(slog.New(slog.NewTextHandler(&out, nil)))
		count := func(want int, when string) {
			t.Helper()
			if got := strings.Count(out.String(), "\n"); got != want {
				t.Errorf("%s: %d lines, want %d\n%s", when, got, want, out.String())
			}
		}
		fail := func(n int) {
			l.Error("failed to heartbeat to", "peer", "b", "backoff time", time.Duration(n+10)*time.Millisecond, "error", fmt.Errorf("read tcp h:%d: reset", n))
		}
		for n := range 500 {
			fail(n)
			time.Sleep(100 * time.Millisecond)
		}
		count(1, "the same for 50 s")
		l.Error("failed to heartbeat to", "peer", "w", "error", "read tcp h:1: reset")
		l.Named("other").Error("failed to heartbeat to", "peer", "b", "error", "bad certificate")
		count(3, "another peer, another error")
		l.Info("entering leader state", "leader", "a")
		l.Info("entering leader state", "leader", "a")
		count(5, "news are never left out")
		time.Sleep(time.Minute)
		fail(1)
		count(6, "a minute later")
		if !strings.Contains(out.String(), "repeated=499") {
			t.Errorf("what was left out is not counted:\n%s", out.String())
		}
	})
}

func TestRepeats_Bounded(t *testing.T) {
	r := newRepeats(time.Now)
	for i := range 10 * repeatLimit {
		r.logs(strings.Repeat("x", i))
	}
	if len(r.seen) > repeatLimit {
		t.Errorf("%d lines are remembered", len(r.seen))
	}
}
