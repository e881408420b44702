package thirdvote

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// A snapshot is acknowledged for w by the condition for entries (R1).
func TestStub_Snapshot_SameCondition(t *testing.T) {
	c := start(t)
	c.write()
	c.settled()
	l := c.leader()
	send := func(index uint64) chan error {
		ch := make(chan error, 1)
		go func() {
			var p raft.InstallSnapshotResponse
			err := l.trans.InstallSnapshot(ServerID, Address, &raft.InstallSnapshotRequest{
				Term: l.raft.CurrentTerm(), LastLogIndex: index, LastLogTerm: l.raft.CurrentTerm(),
			}, &p, bytes.NewReader(nil))
			if err == nil && !p.Success {
				err = errors.New("no success")
			}
			ch <- err
		}()
		return ch
	}
	if err := <-send(l.raft.CommitIndex()); err != nil {
		t.Errorf("a committed one: %v", err)
	}
	// Above, but of an older term, so that nobody goes solo for it.
	above := make(chan error, 1)
	index := l.raft.LastIndex() + 1
	go func() {
		var p raft.InstallSnapshotResponse
		above <- l.trans.InstallSnapshot(ServerID, Address, &raft.InstallSnapshotRequest{
			Term: l.raft.CurrentTerm(), LastLogIndex: index, LastLogTerm: 1,
		}, &p, bytes.NewReader(nil))
	}()
	select {
	case err := <-above:
		t.Fatalf("one above the commit index was answered: %v", err)
	case <-time.After(2 * heartbeat):
	}
	c.write() // makes the index
	if err := <-above; err != nil {
		t.Errorf("once it is committed: %v", err)
	}
	over := make(chan error, 1)
	term := l.raft.CurrentTerm()
	go func() {
		var p raft.InstallSnapshotResponse
		over <- l.trans.InstallSnapshot(ServerID, Address, &raft.InstallSnapshotRequest{
			Term: term, LastLogIndex: 1 << 40, LastLogTerm: 1,
		}, &p, bytes.NewReader(nil))
	}()
	c.transfer(l.peer())
	if err := <-over; !errors.Is(err, errTermOver) {
		t.Errorf("after the leadership: %v", err)
	}
}

// An operator's restore commits through both managers, or through one that is
// the only holder, and not by w's word alone.
func TestCluster_Restore_NotByTheThirdVoteAlone(t *testing.T) {
	c := start(t)
	c.write()
	c.settled()
	l := c.leader()
	c.reg.SetDown(true)
	c.link.set(linkState{refuse: true})
	body := []byte("restored\n")
	meta := &raft.SnapshotMeta{Version: 1, Index: 1, Term: 1, Size: int64(len(body))}
	if err := l.raft.Restore(meta, bytes.NewReader(body), 3*heartbeat); err == nil {
		t.Error("a restore was acknowledged with the peer and the register away")
	}
	c.link.set(linkState{})
	c.reg.SetDown(false)
}

func TestStub_NeverLeadsAndNoPipeline(t *testing.T) {
	c := start(t)
	tr := c.leader().trans
	if err := tr.TimeoutNow(ServerID, Address, &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); err == nil {
		t.Error("w takes over")
	}
	for _, id := range []raft.ServerID{"a", "b", ServerID} {
		if _, err := tr.AppendEntriesPipeline(id, ""); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
			t.Errorf("pipeline to %s: %v", id, err)
		}
	}
}

type noPreVote struct{ raft.Transport }

// Without the pre-vote of the transport the library turns pre-vote off, and the
// term of a node that is cut off runs away.
func TestTransport_PreVote(t *testing.T) {
	c := start(t)
	b := c.nodes["b"]
	if _, err := b.voter.Transport(noPreVote{}); err == nil {
		t.Error("a transport without pre-vote is taken")
	}
	c.transfer(c.nodes["a"])
	c.write()
	c.settled()
	term := b.raft.CurrentTerm()
	b.client.SetDown(true)
	c.link.set(linkState{refuse: true})
	c.wait("b campaigns", func() bool { return b.raft.State() == raft.Candidate })
	c.never("the term of the cut-off node rises", 6*heartbeat, func() bool { return b.raft.CurrentTerm() != term })
	b.client.SetDown(false)
	c.link.set(linkState{})
	c.mustHaveAll()
}

// A follower that was frozen must not win an election from a leader in good
// health, for w alone has no memory of a leader.
func TestStub_PreVote_LeaderInGoodHealthStays(t *testing.T) {
	c := start(t)
	c.write()
	c.settled()
	l := c.leader()
	if granted, _ := l.peer().voter.vote(l.raft.CurrentTerm()+1, true); granted {
		t.Error("w would vote against a leader that answers")
	}
	c.link.set(linkState{refuse: true})
	c.wait("w votes once the leader is gone", func() bool {
		granted, _ := l.peer().voter.vote(l.peer().raft.CurrentTerm()+1, true)
		return granted || c.leader() != l
	})
}

func TestVoter_VerifyRead(t *testing.T) {
	c := start(t)
	c.write()
	c.settled()
	l := c.leader()
	must := func(what string) {
		t.Helper()
		c.wait(what, func() bool {
			_, err := c.leader().voter.VerifyRead(t.Context())
			return err == nil
		})
	}
	must("with all")
	if i, err := l.voter.VerifyRead(t.Context()); err != nil || i < 2 {
		t.Errorf("index %d, %v", i, err)
	}
	if _, ok := l.voter.LastEvidence(); !ok {
		t.Error("a leader without evidence")
	}
	if _, err := l.peer().voter.VerifyRead(t.Context()); futago.CodeOf(err) != futago.CodeNotLeader {
		t.Errorf("the follower: %v", err)
	}
	if _, ok := l.peer().voter.LastEvidence(); ok {
		t.Error("a follower with evidence")
	}
	c.reg.SetDown(true)
	must("by the peer alone (beta)")
	c.reg.SetDown(false)
	c.link.set(linkState{noGreets: true})
	must("by the register alone (alpha)")
	c.link.set(linkState{})
	c.settled()
	l = c.leader()
	l.peer().crash()
	c.write()
	c.reg.SetDown(true)
	must("as only holder (gamma)")
	if !l.voter.Status().Solo {
		t.Error("status does not say so")
	}
	c.reg.SetDown(false)
}

// The version that the leader knows is on the peer's disk, even if the peer
// cannot read the register.
func TestVoter_Greet_TellsTheVersion(t *testing.T) {
	c := start(t)
	l := c.leader()
	o := l.peer()
	o.client.SetDown(true)
	c.wait("the marks are equal", func() bool { return o.voter.mark() == l.voter.mark() })
	m := rules.Mark{Version: 1000, Nonce: register.NewNonce()}
	if _, err := o.voter.Greet(Greeting{From: l.id, Mark: m}); err != nil {
		t.Fatal(err)
	}
	mem, err := loadMemory(o.file(), o.identity)
	if err != nil || mem.Mark != m {
		t.Errorf("on disk: %+v, %v", mem, err)
	}
	if _, err := o.voter.Greet(Greeting{From: "w"}); err == nil {
		t.Error("a greeting from w")
	}
	o.client.SetDown(false)
	c.wait("the register went back", func() bool { return o.saw(EventWentBack) > 0 })
	c.wait("the leader was told", func() bool { return l.voter.mark() == m })
}
