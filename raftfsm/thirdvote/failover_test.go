package thirdvote

import (
	"testing"
	"time"

	"github.com/futago/futago/raftfsm/thirdvote/register"
)

func TestCluster_LeaderDies_PeerGoesOn(t *testing.T) {
	c := start(t)
	for range 3 {
		for range 5 {
			c.write()
		}
		l := c.leader()
		began := time.Now()
		l.crash()
		c.write()
		t.Logf("leader %s died: next write acknowledged after %v", l.id, time.Since(began).Round(time.Millisecond))
		if !c.reg.Current().Holders.Only(l.id.Peer()) {
			t.Fatalf("acknowledged alone with holders %v", c.reg.Current().Holders)
		}
		c.write()
		l.start()
		c.settled()
	}
	c.mustHaveAll()
}

func TestCluster_FollowerDies_LeaderGoesOn(t *testing.T) {
	c := start(t)
	for range 3 {
		c.write()
		l := c.leader()
		began := time.Now()
		l.peer().crash()
		c.write()
		t.Logf("follower died: next write acknowledged after %v", time.Since(began).Round(time.Millisecond))
		if c.leader() != l {
			t.Fatal("the leader changed")
		}
		if !c.reg.Current().Holders.Only(l.id) {
			t.Fatalf("acknowledged alone with holders %v", c.reg.Current().Holders)
		}
		l.peer().start()
		c.settled()
	}
	c.mustHaveAll()
}

// While nothing waits nobody becomes the only holder: the peer that is merely
// missing keeps its chance (R2, lazily).
func TestCluster_FollowerDies_IdleLeaderKeepsBoth(t *testing.T) {
	c := start(t)
	c.write()
	c.settled()
	c.leader().peer().crash()
	c.never("became the only holder with nothing to do", 5*heartbeat, func() bool {
		return c.reg.Current().Holders != register.Both
	})
	c.write()
}
