package raftfsm_test

import (
	"context"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
)

// stopped opens the directory of a member that does not run.
func (r *rig) stopped(id futago.MemberID, f func(d *cluster.Dir)) {
	r.t.Helper()
	d, err := cluster.Open(r.dirs[id])
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			r.t.Error(err)
		}
	}()
	f(d)
}

// pair runs both managers until both hold, and stops them.
func pair(t *testing.T) *rig {
	r := newRig(t, registertest.New())
	r.start(futago.MemberA)
	r.start(futago.MemberB)
	wait(t, "both hold", func() bool { return r.reg.Current().Holders == register.Both })
	r.propose(r.leader(), user(1, "before"))
	return r
}

// The record is lost for good: one manager seizes, the other one follows, and
// nothing that both had is lost.
func TestSeize_RecordLost(t *testing.T) {
	r := pair(t)
	wait(t, "the entry on both", func() bool { return r.members["a"].has("before") && r.members["b"].has("before") })
	r.stopBoth()
	r.stopped(futago.MemberB, func(d *cluster.Dir) {
		_, err := raftfsm.Seize(t.Context(), d, r.reg.Client())
		if futago.CodeOf(err) != futago.CodeConflict {
			t.Errorf("with a record that names it: %v", err)
		}
	})
	r.reg = registertest.New()
	r.stopped(futago.MemberB, func(d *cluster.Dir) {
		rec, err := raftfsm.Seize(t.Context(), d, r.reg.Client())
		if err != nil || !rec.Holders.Only(futago.MemberB) {
			t.Fatalf("%v, %v", rec, err)
		}
	})
	r.stopped(futago.MemberA, func(d *cluster.Dir) {
		if err := raftfsm.Follow(d); err != nil {
			t.Fatal(err)
		}
	})
	b := r.start(futago.MemberB)
	r.propose(b, user(2, "alone"))
	a := r.start(futago.MemberA)
	wait(t, "both hold", func() bool { return r.reg.Current().Holders == register.Both })
	if wait(t, "all on a", func() bool { return a.has("before") && a.has("alone") }); !b.has("before") {
		t.Error("b has lost an entry")
	}
	r.sameDatabases()
}

// stopBoth ends both managers.
func (r *rig) stopBoth() {
	r.t.Helper()
	r.stop(futago.MemberA)
	r.stop(futago.MemberB)
}

// A manager that acknowledged alone comes back after the other one was made the
// leader without that: it stops, and does not run on with two histories.
func TestSeize_OtherHistory_Stops(t *testing.T) {
	r := pair(t)
	l := r.leader()
	other := l.id.Peer()
	wait(t, "the entry on both", func() bool { return r.members["a"].has("before") && r.members["b"].has("before") })
	r.stop(other)
	l = r.leader()
	r.propose(l, user(2, "alone"))
	r.stop(l.id)
	r.stopped(other, func(d *cluster.Dir) {
		if _, err := raftfsm.Seize(t.Context(), d, r.reg.Client()); err != nil {
			t.Fatal(err)
		}
	})
	o := r.start(other)
	r.propose(o, user(3, "seized"))
	back := r.start(l.id)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := back.node.Wait(ctx); futago.CodeOf(err) != futago.CodeCorrupt {
		t.Errorf("the manager with another history: %v", err)
	}
	if !back.has("alone") || back.has("seized") {
		t.Error("its database was changed")
	}
}

func TestSeize_NeverRan_Refused(t *testing.T) {
	r := newRig(t, registertest.New())
	r.reg = registertest.New()
	r.stopped(futago.MemberA, func(d *cluster.Dir) {
		if _, err := raftfsm.Seize(t.Context(), d, r.reg.Client()); futago.CodeOf(err) != futago.CodeConflict {
			t.Error(err)
		}
	})
}

func TestSeize_OtherRuns_Refused(t *testing.T) {
	r := pair(t)
	l := r.leader()
	other := l.id.Peer()
	r.stop(other)
	r.propose(r.leader(), user(2, "alone"))
	r.stopped(other, func(d *cluster.Dir) {
		if _, err := d.AddMember(l.id, cluster.Addresses{Cluster: l.link.Addr().String(), Joins: 99}); err != nil {
			t.Fatal(err)
		}
		if _, err := raftfsm.Seize(t.Context(), d, r.reg.Client()); futago.CodeOf(err) != futago.CodeConflict || !r.reg.Current().Holders.Only(l.id) {
			t.Errorf("beside a manager that runs: %v", err)
		}
	})
}
