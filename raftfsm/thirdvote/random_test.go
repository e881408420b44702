package thirdvote

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// Faults at random, for a few seconds or THIRDVOTE_SECONDS: crashes, cuts, lost
// and late writes of the register, a register that one or both cannot reach,
// hand-overs. Nothing acknowledged may be lost, and no two managers may apply
// different entries at one index.
func TestCluster_RandomFaults(t *testing.T) {
	seconds := 5
	if s, err := strconv.Atoi(os.Getenv("THIRDVOTE_SECONDS")); err == nil {
		seconds = s
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("THIRDVOTE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("seed %d", seed)
	c := start(t)
	randomFaults(t, c, rand.New(rand.NewPCG(seed, 0)), time.Duration(seconds)*time.Second)
	c.mustHaveAll()
}

// The same faults find a rule that is missing: the test is no blank cartridge.
func TestCluster_RandomFaults_FindsAMissingRule(t *testing.T) {
	for seed := range uint64(20) {
		c := start(t, sw("a", rules.Switches{R1NoCondition: true}), sw("b", rules.Switches{R1NoCondition: true}))
		randomFaults(t, c, rand.New(rand.NewPCG(seed, 1)), 2*time.Second)
		found := false
		// A cluster that lost something may never settle.
		for end := time.Now().Add(10 * heartbeat); !found && time.Now().Before(end); time.Sleep(time.Millisecond) {
			c.mu.Lock()
			found = c.diverged != ""
			c.mu.Unlock()
			if l := c.leader(); !found && l != nil && l.raft.Barrier(heartbeat).Error() == nil {
				found = len(c.lost(l)) > 0
			}
		}
		c.close()
		if found {
			return
		}
	}
	t.Error("20 runs without R1, and nothing lost")
}

func randomFaults(t *testing.T, c *cluster, r *rand.Rand, d time.Duration) {
	a, b := c.nodes["a"], c.nodes["b"]
	nodes := []*node{a, b}
	for _, n := range nodes {
		fates := rand.New(rand.NewPCG(r.Uint64(), 0))
		n.client.SetFate(func(_, _ register.Record) registertest.Fate {
			if fates.IntN(4) == 0 {
				return registertest.Fate(1 + fates.IntN(3))
			}
			return registertest.Do
		})
	}
	counts := map[string]int{}
	for end := time.Now().Add(d); time.Now().Before(end); {
		n := nodes[r.IntN(2)]
		what := []string{"crash", "start", "start", "cut", "refuse", "heal", "heal", "heal", "unreachable", "reachable", "reachable", "release", "transfer"}[r.IntN(13)]
		counts[what]++
		switch what {
		case "crash":
			n.crash()
		case "start":
			if !n.isUp() {
				n.start()
			}
		case "cut":
			c.link.set(linkState{cut: true})
		case "refuse":
			c.link.set(linkState{refuse: true})
		case "heal":
			c.link.set(linkState{})
		case "unreachable":
			n.client.SetDown(true)
		case "reachable":
			n.client.SetDown(false)
		case "release":
			c.reg.Release()
		case "transfer":
			if l := c.leader(); l != nil {
				o := l.peer()
				_ = l.raft.LeadershipTransferToServer(raft.ServerID(o.id), raft.ServerAddress(o.addr)).Error()
			}
		}
		for stop := time.Now().Add(time.Duration(r.IntN(200)) * time.Millisecond); time.Now().Before(stop); {
			c.n++
			// Whoever takes itself for the leader is asked, also a stale one.
			for _, n := range nodes {
				if n.isUp() && n.raft.State() == raft.Leader {
					n.write(fmt.Sprintf("%s%d", n.id, c.n), 15*time.Millisecond)
				}
			}
			time.Sleep(time.Millisecond)
		}
	}
	c.link.set(linkState{})
	for _, n := range nodes {
		n.client.SetDown(false)
		n.client.SetFate(nil)
		if !n.isUp() {
			n.start()
		}
	}
	c.reg.Release()
	t.Logf("%v; %d writes acknowledged; register: %v", counts, len(c.acked), c.reg.Current())
}
