package raftfsm_test

import (
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
)

// While the register is away, w is stuck. The log that it needs stays, within a
// limit. Beyond it, w gets a snapshot for which nothing is copied.
func TestNode_StuckVote(t *testing.T) {
	for name, keep := range map[string]int64{"kept": 1 << 30, "cut": 0} {
		t.Run(name, func(t *testing.T) {
			reg := registertest.New()
			r := newRig(t, reg)
			r.start(futago.MemberA)
			r.start(futago.MemberB)
			r.leader()
			wait(t, "no spare is missing", func() bool { return reg.Current().Holders.Has("b") })
			l := r.leader()
			r.propose(l, user(0, "before"))
			reg.SetDown(true)
			for i := range byte(30) {
				r.propose(l, user(i+1, string([]byte{'a' + i/26, 'a' + i%26})))
			}
			if r.leader() != l {
				t.Skip("another leader on a loaded machine")
			}
			need := l.node.LogNeededForTest()
			if need == 0 || need+20 > l.mach.Applied().Index {
				t.Fatalf("w needs the log from %d of %d: not stuck", need, l.mach.Applied().Index)
			}
			if err := l.node.CompactForTest(1, keep); err != nil {
				t.Fatal(err)
			}
			first, err := l.node.FirstIndexForTest()
			if err != nil {
				t.Fatal(err)
			}
			if (first <= need) != (keep > 0) {
				t.Fatalf("the log begins at %d, and w needs %d", first, need)
			}
			reg.SetDown(false)
			wait(t, "w at the end of the log", func() bool { return l.node.LogNeededForTest()+3 > l.mach.Applied().Index })
			if n := l.node.CopiesForTest(); n != 0 {
				t.Errorf("the database was copied %d times for w", n)
			}
			// W has a say again: the leader goes on alone.
			r.stop(l.id.Peer())
			r.propose(r.leader(), user(200, "alone"))
		})
	}
}
