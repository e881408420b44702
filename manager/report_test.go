package manager

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

// bare is a manager of which only what these tests use is there.
func bare() *Manager {
	m := &Manager{
		log: slog.New(slog.DiscardHandler), now: time.Now, state: stateStarting, closing: make(chan struct{}),
		node: cluster.Node{Member: futago.MemberA},
	}
	m.reports = newReporter(m)
	return m
}

func TestReporter_Bounded(t *testing.T) {
	m := bare()
	for i := range reportLimit + 10 {
		m.reports.report("topic", futago.SeverityWarning, fmt.Sprint(i))
	}
	if s := m.reports.status(); s.Depth != reportLimit || s.Limit != reportLimit || s.Dropped != 10 {
		t.Errorf("depth %d of %d, dropped %d", s.Depth, s.Limit, s.Dropped)
	}
	// The oldest are kept: what came first explains the rest.
	if p := <-m.reports.queue; p.Message != "0" || p.Topic != "topic" || p.Member != futago.MemberA || p.At.IsZero() {
		t.Errorf("the first is %+v", p)
	}
}

// TestReporter_WaitsForSession runs the reporter without a session: it keeps
// trying, and ends with its context.
func TestReporter_WaitsForSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bare()
		m.reports.report("topic", futago.SeverityWarning, "waits")
		m.reports.report("topic", futago.SeverityWarning, "waits behind it")
		done := make(chan struct{})
		go func() { m.reports.run(t.Context()); close(done) }()
		time.Sleep(10 * reportPause)
		synctest.Wait()
		if s := m.reports.status(); s.Depth != 1 || s.Dropped != 0 {
			t.Errorf("depth %d, dropped %d", s.Depth, s.Dropped)
		}
		select {
		case <-done:
			t.Error("it has ended by itself")
		default:
		}
	})
}

func TestManager_SessionSaysWhy(t *testing.T) {
	m := bare()
	if _, err := m.session(); futago.CodeOf(err) != futago.CodeUnavailable {
		t.Errorf("starting: %v", err)
	}
	m.setStopped(futago.CodeCorrupt, futago.Errorf(futago.CodeCorrupt, "raft.db is damaged"))
	_, err := m.session()
	if futago.CodeOf(err) != futago.CodeUnavailable || err.Error() != "this member does not take part now: raft.db is damaged; see futago status" {
		t.Errorf("stopped: %v", err)
	}
	s := &session{}
	m.setSession(s)
	if got, err := m.session(); got != s || err != nil || m.state != stateRunning || m.reason != nil {
		t.Errorf("running: %v, %v, %s", got, err, m.state)
	}
}
