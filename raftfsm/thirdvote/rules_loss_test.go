package thirdvote

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// bothWays runs a schedule with the rules of base, in which it must come out
// well, and with one more rule removed from the manager on, in which the same
// schedule must lose what the rule protects. bad reports a loss. A busy machine
// can upset a schedule, by an election that nobody ordered; then it is run
// again. A loss with the rules in force is never forgiven.
func bothWays(t *testing.T, on futago.MemberID, base, removed rules.Switches, bad func(c *cluster) bool) {
	const tries = 4
	t.Run("in force", func(t *testing.T) {
		for range tries {
			lost, off := attempt(t, bad, sw(on, base))
			if lost {
				t.Fatal("lost in spite of the rule")
			}
			if off == "" {
				return
			}
			t.Logf("the schedule was upset: %s", off)
		}
		t.Errorf("the schedule was upset %d times", tries)
	})
	t.Run("removed", func(t *testing.T) {
		for range tries {
			lost, off := attempt(t, bad, sw(on, removed))
			if lost {
				return
			}
			t.Logf("nothing lost %s", off)
		}
		t.Error("nothing lost without the rule: the schedule does not test it")
	})
}

// upset is the panic of a schedule that did not go as planned.
type upset string

func (c *cluster) upset(format string, args ...any) {
	panic(upset(fmt.Sprintf(format, args...)))
}

func attempt(t *testing.T, bad func(c *cluster) bool, opts ...option) (lost bool, off upset) {
	c := start(t, opts...)
	defer c.close()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case upset:
			off = r
		default:
			panic(r)
		}
	}()
	return bad(c), ""
}

// alone cuts the managers apart and has the leader a acknowledge a write alone.
func (c *cluster) alone(key string) {
	c.t.Helper()
	c.link.set(linkState{cut: true})
	a := c.nodes["a"]
	if !a.write(key, patience) {
		c.upset("%s was not acknowledged; register: %v", key, c.reg.Current())
	}
	if !c.reg.Current().Holders.Only("a") {
		c.upset("acknowledged alone with the record %v", c.reg.Current())
	}
}

// transfer hands the leadership over to n.
func (c *cluster) transfer(n *node) {
	c.t.Helper()
	c.wait(fmt.Sprintf("%s takes over", n.id), func() bool {
		if n.raft.State() == raft.Leader {
			return true
		}
		if l := c.leader(); l != nil && l != n {
			_ = l.raft.LeadershipTransferToServer(raft.ServerID(n.id), raft.ServerAddress(n.addr)).Error()
		}
		return n.raft.State() == raft.Leader
	})
}

// forgetPeer makes n as one that has not greeted its peer yet.
func (n *node) forgetPeer() {
	n.c.wait("no greeting is under way", func() bool {
		_, err := n.voter.greetings.do(n.c.t.Context())
		return err != nil
	})
	n.voter.mu.Lock()
	defer n.voter.mu.Unlock()
	n.voter.peer = Greeting{}
}

// fresh begins a new leadership of a, without what the first one, in which b was
// taken in, may have kept for lack of a rule.
func (c *cluster) fresh() {
	c.t.Helper()
	c.transfer(c.nodes["b"])
	c.transfer(c.nodes["a"])
	c.write()
	c.settled()
}

// wipedB gives b an empty disk on which it has only the first entries, while
// the record still names both managers, and kills a.
func (c *cluster) wipedB() (key string) {
	c.t.Helper()
	a, b := c.nodes["a"], c.nodes["b"]
	for range 12 {
		key = c.write()
	}
	c.settled()
	b.crash()
	b.wipe()
	c.link.set(linkState{maxIndex: 8, noGreets: true})
	b.start()
	for end := time.Now().Add(20 * heartbeat); b.raft.LastIndex() != 8; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.upset("b does not take the first entries")
		}
	}
	a.crash()
	if c.reg.Current().Holders != register.Both {
		c.upset("%v", c.reg.Current())
	}
	return key
}

func TestRule_R1_CommittedOrSolo(t *testing.T) {
	bothWays(t, "a", rules.Switches{}, rules.Switches{R1NoCondition: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.link.set(linkState{cut: true})
		acked := a.write("e1", 10*heartbeat)
		a.crash()
		return acked && c.leadsWithout(b, "e1", 15*heartbeat)
	})
}

func TestRule_R2_TermAndVote(t *testing.T) {
	// With R5 in force the old leader is deposed before it gets so far.
	base := rules.Switches{R5NoEvidence: true}
	removed := rules.Switches{R5NoEvidence: true, R2NoTermCondition: true}
	bothWays(t, "a", base, removed, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.link.set(linkState{cut: true})
		c.wait("b leads", func() bool { return b.raft.State() == raft.Leader })
		acked := a.write("e1", 6*heartbeat)
		return acked && b.raft.State() == raft.Leader && !b.fsm.has("e1")
	})
}

func toLate(_, next register.Record) registertest.Fate {
	if next.Holders == register.Both {
		return registertest.Late
	}
	return registertest.Do
}

// T1: the write of a readmission is delayed past a re-election.
func TestRule_R2_NotByReading(t *testing.T) {
	bothWays(t, "a", rules.Switches{}, rules.Switches{R2ByReading: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.fresh()
		c.alone("e1")
		a.client.SetFate(toLate)
		c.link.set(linkState{})
		c.wait("a late write", func() bool { return c.reg.Pending() > 0 })
		// b, then a again, each by the other's vote: no word with the register.
		a.client.SetDown(true)
		b.client.SetDown(true)
		c.transfer(b)
		c.transfer(a)
		c.link.set(linkState{cut: true})
		a.client.SetDown(false)
		acked := a.write("e2", 10*heartbeat)
		c.reg.Release()
		a.crash()
		b.client.SetDown(false)
		return acked && c.leadsWithout(b, "e2", 15*heartbeat)
	})
}

// T3: solo of an earlier leadership, while the other manager became the only
// holder in between.
func TestRule_R2_BoundToTheTerm(t *testing.T) {
	bothWays(t, "a", rules.Switches{}, rules.Switches{R2NotBound: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		// No greetings, no readmission: not even one that is begun because the
		// peer was known before the cut, for that drops solo as well.
		c.link.set(linkState{cut: true, noGreets: true})
		a.forgetPeer()
		if !a.write("e1", patience) {
			c.upset("e1")
		}
		c.link.set(linkState{noGreets: true})
		c.wait("b has e1", func() bool { return b.fsm.has("e1") })
		c.transfer(b)
		c.link.set(linkState{cut: true, noGreets: true})
		if !b.write("x", patience) || !c.reg.Current().Holders.Only("b") {
			c.upset("x: %v", c.reg.Current())
		}
		c.link.set(linkState{noGreets: true})
		c.wait("a has x", func() bool { return a.fsm.has("x") })
		c.transfer(a)
		c.link.set(linkState{cut: true, noGreets: true})
		acked := a.write("e2", 10*heartbeat)
		a.crash()
		return acked && c.leadsWithout(b, "e2", 15*heartbeat)
	})
}

func TestRule_R3_SoloIsDroppedFirst(t *testing.T) {
	bothWays(t, "a", rules.Switches{}, rules.Switches{R3KeepSolo: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.fresh()
		c.alone("e1")
		acked := make(chan bool, 1)
		a.client.SetFate(func(_, next register.Record) registertest.Fate {
			if next.Holders == register.Both && len(acked) == 0 {
				c.link.set(linkState{cut: true})
				acked <- a.write("e2", 3*heartbeat)
			}
			return registertest.Do
		})
		c.link.set(linkState{})
		c.wait("the last phase", func() bool { return len(acked) == 1 })
		ok := <-acked
		c.wait("both hold", func() bool { return c.reg.Current().Holders == register.Both || !ok })
		a.crash()
		return ok && c.leadsWithout(b, "e2", 15*heartbeat)
	})
}

func TestRule_R3_Barrier(t *testing.T) {
	bothWays(t, "a", rules.Switches{}, rules.Switches{R3NoBarrier: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.write()
		c.settled()
		last := a.raft.LastIndex()
		c.alone("e1")
		c.link.set(linkState{maxIndex: last})
		for end := time.Now().Add(12 * heartbeat); time.Now().Before(end) && c.reg.Current().Holders != register.Both; {
			time.Sleep(time.Millisecond)
		}
		a.crash()
		return c.leadsWithout(b, "e1", 15*heartbeat)
	})
}

// T2: a read of the old version does not mean that the write will not happen.
func TestRule_R3_NoThaw(t *testing.T) {
	bothWays(t, "a", rules.Switches{}, rules.Switches{R3Thaw: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.alone("e1")
		a.client.SetFate(toLate)
		c.link.set(linkState{})
		c.wait("a write without an answer", func() bool { return c.reg.Pending() > 0 && a.saw(EventGaveUp) > 0 })
		c.link.set(linkState{cut: true})
		acked := a.write("e2", 10*heartbeat)
		c.reg.Release()
		a.crash()
		return acked && c.leadsWithout(b, "e2", 15*heartbeat)
	})
}

// The peer takes the barrier, loses its disk, and its new directory is asked
// for its name.
func TestRule_R3_IdentityBeforeTheBarrier(t *testing.T) {
	bothWays(t, "a", rules.Switches{}, rules.Switches{R3NoFirstIdentity: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		for range 12 {
			c.write()
		}
		c.alone("e1")
		wiped := make(chan struct{})
		hook := func() {
			select {
			case <-wiped:
				return
			default:
			}
			if a.voter.Status().Phase != rules.PhaseIdentityAgain {
				return
			}
			defer close(wiped)
			b.crash()
			b.wipe()
			c.link.set(linkState{maxIndex: 8})
			if err := b.tryStart(); err != nil {
				c.t.Errorf("b does not start: %v", err)
				return
			}
			for end := time.Now().Add(patience); b.raft.LastIndex() < 8 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
		a.greet.Store(&hook)
		c.link.set(linkState{})
		<-wiped
		for end := time.Now().Add(8 * heartbeat); time.Now().Before(end) && !b.voter.Admitted(); {
			time.Sleep(time.Millisecond)
		}
		a.crash()
		return c.leadsWithout(b, "e1", 15*heartbeat)
	})
}

func TestRule_R4_HoldersOnly(t *testing.T) {
	bothWays(t, "b", rules.Switches{}, rules.Switches{R4AnyCandidate: true}, func(c *cluster) bool {
		c.alone("e1")
		c.nodes["a"].crash()
		return c.leadsWithout(c.nodes["b"], "e1", 15*heartbeat)
	})
}

func TestRule_R4_RecordedDirectory(t *testing.T) {
	base := rules.Switches{R6Campaign: true}
	removed := rules.Switches{R6Campaign: true, R4AnyIdentity: true}
	bothWays(t, "b", base, removed, func(c *cluster) bool {
		return c.leadsWithout(c.nodes["b"], c.wipedB(), 15*heartbeat)
	})
}

func TestRule_R4_OneVotePerTerm(t *testing.T) {
	bothWays(t, "b", rules.Switches{}, rules.Switches{R4VoteTwice: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		a.crash()
		b.crash()
		const term = 50
		for _, n := range []*node{a, b} {
			if err := n.logs.SetUint64(currentTermKey, term); err != nil {
				c.t.Fatal(err)
			}
			// The voters without their Raft: only its term is looked at.
			v, err := n.open(c.t.Context())
			if err != nil {
				c.t.Fatal(err)
			}
			defer v.Close()
			_, inner := raft.NewInmemTransport("")
			logs := raft.NewInmemStore()
			if err := logs.SetUint64(currentTermKey, term); err != nil {
				c.t.Fatal(err)
			}
			r, err := raft.NewRaft(n.raftConfig(), n.fsm, logs, logs, raft.NewInmemSnapshotStore(), inner)
			if err != nil {
				c.t.Fatal(err)
			}
			defer func() { _ = r.Shutdown().Error() }()
			v.Bind(r)
			n.voter = v
		}
		first, _ := a.voter.vote(term, false)
		again, _ := a.voter.vote(term, false)
		trial, _ := b.voter.vote(term, true)
		second, _ := b.voter.vote(term, false)
		if !first || !again || trial != second {
			c.t.Fatalf("first %v, again %v, trial %v, second %v", first, again, trial, second)
		}
		return second
	})
}

// A negative control as well: without R5 the library's own check passes on a
// leader that is deposed.
func TestRule_R5_EvidenceDeposes(t *testing.T) {
	for _, readable := range []bool{true, false} {
		t.Run(fmt.Sprintf("register readable %v", readable), func(t *testing.T) {
			bothWays(t, "a", rules.Switches{}, rules.Switches{R5NoEvidence: true}, func(c *cluster) bool {
				a, b := c.nodes["a"], c.nodes["b"]
				c.link.set(linkState{cut: true})
				a.client.SetDown(!readable)
				c.wait("b leads", func() bool { return b.raft.State() == raft.Leader })
				began := time.Now()
				if !b.write("e1", patience) {
					c.upset("b does not serve")
				}
				for time.Since(began) < 10*heartbeat {
					if a.raft.State() != raft.Leader {
						c.t.Logf("deposed %v after the other leader's first write", time.Since(began).Round(time.Millisecond))
						return false
					}
					time.Sleep(time.Millisecond)
				}
				return a.raft.VerifyLeader().Error() == nil
			})
		})
	}
}

func TestRule_R6_UnadmittedDoesNotVote(t *testing.T) {
	bothWays(t, "a", rules.Switches{}, rules.Switches{R6Vote: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.alone("e1")
		a.crash()
		a.wipe()
		a.start()
		c.link.set(linkState{})
		return c.leadsWithout(b, "e1", 15*heartbeat)
	})
}

func TestRule_R6_UnadmittedDoesNotCampaign(t *testing.T) {
	base := rules.Switches{R4AnyIdentity: true}
	removed := rules.Switches{R4AnyIdentity: true, R6Campaign: true}
	bothWays(t, "b", base, removed, func(c *cluster) bool {
		return c.leadsWithout(c.nodes["b"], c.wipedB(), 15*heartbeat)
	})
}

// A wiped node in a low term would acknowledge to a leader that is deposed.
func TestRule_R6_TermOfTheRegister(t *testing.T) {
	bothWays(t, "b", rules.Switches{}, rules.Switches{R6KeepTerm: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		// An old leader that does not notice: without evidence, so without R5.
		a.crash()
		a.switches = rules.Switches{R5NoEvidence: true}
		a.start()
		c.settled()
		c.transfer(a)
		c.settled()
		c.link.set(linkState{cut: true})
		c.wait("b leads", func() bool { return b.raft.State() == raft.Leader })
		if !b.write("e1", patience) {
			c.upset("b does not serve")
		}
		b.crash()
		b.wipe()
		b.start()
		c.link.set(linkState{})
		return a.write("stale", 10*heartbeat)
	})
}

func TestRule_R7_RegisterWentBack(t *testing.T) {
	bothWays(t, "b", rules.Switches{}, rules.Switches{R7NoMark: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		old := c.reg.Current()
		c.alone("e1")
		now := rules.MarkOf(c.reg.Current())
		c.wait("b sees the newer record", func() bool { return b.voter.mark() == now })
		a.crash()
		c.reg.Restore(old)
		lost := c.leadsWithout(b, "e1", 15*heartbeat)
		if !lost && b.saw(EventWentBack) == 0 {
			c.t.Error("nobody said that the register went back")
		}
		return lost
	})
}

func TestRule_R8_LeaderIsNotEnough(t *testing.T) {
	// With R5 in force there is no such leader to ask.
	base := rules.Switches{R5NoEvidence: true}
	removed := rules.Switches{R5NoEvidence: true, R8LeaderIsEnough: true}
	bothWays(t, "a", base, removed, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.write()
		c.link.set(linkState{cut: true})
		c.wait("b leads", func() bool { return b.raft.State() == raft.Leader })
		if !b.write("e1", patience) {
			c.upset("b does not serve")
		}
		_, err := a.voter.VerifyRead(c.t.Context())
		return err == nil
	})
}

func TestRule_R8_OwnTermFirst(t *testing.T) {
	bothWays(t, "b", rules.Switches{}, rules.Switches{R8NoOwnTerm: true}, func(c *cluster) bool {
		a, b := c.nodes["a"], c.nodes["b"]
		c.write()
		c.settled()
		// b is elected, and its first entry goes nowhere: the peer does not get
		// it, and w waits.
		a.client.SetDown(true)
		c.link.set(linkState{maxIndex: a.raft.LastIndex()})
		b.client.SetFate(func(_, _ register.Record) registertest.Fate { return registertest.Lose })
		c.transfer(b)
		_, err := b.voter.VerifyRead(c.t.Context())
		return err == nil
	})
}
