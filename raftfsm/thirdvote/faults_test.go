package thirdvote

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
)

// A cut between the managers, both of which reach the register: one side goes
// on, and nothing that either acknowledged is lost.
func TestCluster_Cut_ExactlyOneSideGoesOn(t *testing.T) {
	c := start(t)
	for i, busy := range []bool{true, false, true, false} {
		c.write()
		c.settled()
		c.link.set(linkState{cut: true})
		if !busy {
			time.Sleep(heartbeat) // anywhere within an election
		}
		acks := map[futago.MemberID]int{}
		// The first acknowledgement may take a while on a busy machine; after it
		// the other side has time to go wrong.
		for end := time.Now().Add(patience); time.Now().Before(end); {
			for id, n := range c.nodes {
				if n.write(fmt.Sprintf("cut%d%s%d", i, id, time.Now().UnixNano()), 20*time.Millisecond) {
					if len(acks) == 0 {
						end = time.Now().Add(6 * heartbeat)
					}
					acks[id]++
				}
			}
		}
		if (acks["a"] > 0) == (acks["b"] > 0) {
			t.Errorf("cut %d: a acknowledged %d, b %d", i, acks["a"], acks["b"])
		}
		c.link.set(linkState{})
		c.mustHaveAll()
	}
}

func TestCluster_RegisterAway_BothServe_OneStops(t *testing.T) {
	c := start(t)
	c.write()
	l := c.leader()
	term := l.raft.CurrentTerm()
	c.reg.SetDown(true)
	c.wait("the loss is said", func() bool { return l.saw(EventRegisterLost) > 0 })
	for range 10 {
		c.write()
	}
	if c.leader() != l || l.raft.CurrentTerm() != term {
		t.Fatal("the leadership did not survive the register")
	}
	if need := l.voter.LogNeeded(); need == 0 || need >= l.raft.LastIndex() {
		t.Errorf("w, which is stuck, needs the log from %d of %d", need, l.raft.LastIndex())
	}
	if l.voter.Status().Reachable {
		t.Error("status calls the register reachable")
	}
	// Nobody is left to vote with: safe, and stopped.
	l.peer().crash()
	if l.write("alone", 5*heartbeat) {
		t.Fatal("acknowledged alone without the register")
	}
	c.reg.SetDown(false)
	c.write()
	l.peer().start()
	c.mustHaveAll()
}

// The decision to go on alone is durable: the register may die after it.
func TestCluster_FollowerDies_ThenRegister_GoesOn(t *testing.T) {
	c := start(t)
	l := c.leader()
	l.peer().crash()
	c.write()
	c.reg.SetDown(true)
	for range 5 {
		c.write()
	}
	if c.leader() != l {
		t.Fatal("the leader changed")
	}
	c.reg.SetDown(false)
	l.peer().start()
	c.mustHaveAll()
}

// Both die, and only the one that lacks what was acknowledged comes back.
func TestCluster_BothDie_StaleOneRefuses(t *testing.T) {
	c := start(t)
	a, b := c.nodes["a"], c.nodes["b"]
	c.link.set(linkState{cut: true})
	c.wait("a goes on alone", func() bool { return a.write("e1", time.Second) && c.reg.Current().Holders.Only("a") })
	a.crash()
	b.crash()
	c.link.set(linkState{})
	b.start()
	c.never("the stale manager leads", 8*heartbeat, func() bool { return b.raft.State() == raft.Leader })
	a.start()
	c.write()
	c.mustHaveAll()
}

func TestCluster_CrashAndRestart_Together(t *testing.T) {
	c := start(t)
	for range 3 {
		c.write()
		for _, n := range c.nodes {
			n.crash()
		}
		for _, n := range c.nodes {
			n.start()
		}
		c.write()
	}
	c.mustHaveAll()
}

// The answers to two writes get lost: the sole holding is asked for again, and
// nothing is taken for done.
func TestSteward_AnswerLost_AsksAgain(t *testing.T) {
	for _, fate := range []registertest.Fate{registertest.DropAnswer, registertest.Lose} {
		c := start(t)
		l := c.leader()
		n := 0
		l.client.SetFate(func(_, _ register.Record) registertest.Fate {
			if n++; n <= 2 {
				return fate
			}
			return registertest.Do
		})
		l.peer().crash()
		c.write()
		if n < 3 {
			t.Errorf("acknowledged after %d writes, of which 2 had no answer", n)
		}
		l.peer().start()
		c.mustHaveAll()
	}
}
