package manager_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/cluster"
)

func TestManager_HandsOver(t *testing.T) {
	s := newPair(t)
	s.send("first", futago.MemberA, futago.MemberB)
	if e := s.recorded(futago.MemberB, "first"); len(e.Receipts) == 0 {
		t.Errorf("no receipts: %+v", e)
	}
	first := s.leader(futago.MemberA)
	other := first.Peer()
	s.mustStop(first)
	// The other one was asked to take over: it needs no time-out to find out.
	if got := s.leader(other); got != other {
		t.Errorf("%s leads after %s was stopped", got, first)
	}
	if err := s.custom(other, "alone"); err != nil {
		t.Errorf("a custom trap during the absence: %v", err)
	}
	s.start(first)
	s.awaitWord(other, futago.RedundancyFull)
	s.recorded(first, "k=alone")
	// Asked to, the standby's host names the leader, and the leader hands over.
	err := s.client(first, func(c *client.Client) error {
		return c.Do(t.Context(), http.MethodPost, "/api/v1/switch", newKey(), nil, nil)
	})
	if futago.CodeOf(err) != futago.CodeNotLeader || !strings.Contains(err.Error(), s.addresses(other).API) {
		t.Errorf("the standby was asked to hand over: %v", err)
	}
	s.must(s.client(other, func(c *client.Client) error {
		return c.Do(t.Context(), http.MethodPost, "/api/v1/switch", newKey(), nil, nil)
	}))
	s.eventually("the switch", func() error {
		if st, err := s.status(other); err != nil || st.Leader != first {
			return fmt.Errorf("%q leads, %w", st.Leader, err)
		}
		return nil
	})
}

func TestManager_ThirdMember(t *testing.T) {
	s := newSite(t, cluster.ThirdVoteManager)
	s.start(futago.MemberA)
	s.awaitWord(futago.MemberA, futago.RedundancyStoppedSafe, "futago token join --member b", "futago token join --member w")
	s.join(futago.MemberA, futago.MemberB)
	s.start(futago.MemberB)
	s.awaitWord(futago.MemberB, futago.RedundancyNoSpare, "the third member w does not take part")
	s.join(futago.MemberA, futago.MemberW)
	s.start(futago.MemberW)
	s.awaitWord(futago.MemberA, futago.RedundancyFull)
	// b learns of w from a.
	s.awaitWord(futago.MemberB, futago.RedundancyFull)
	s.send("hello", futago.MemberA)
	s.recorded(futago.MemberB, "hello")
}

// TestManager_Rejoin loses one data directory after the other, the founder's
// too, and makes each anew by a token of the survivor.
func TestManager_Rejoin(t *testing.T) {
	s := newPair(t)
	s.send("before", futago.MemberA, futago.MemberB)
	s.recorded(futago.MemberB, "before")
	for _, lost := range []futago.MemberID{futago.MemberB, futago.MemberA} {
		survivor := lost.Peer()
		// A member that runs cannot be replaced by mistake.
		err := s.client(survivor, func(c *client.Client) error {
			return c.Do(t.Context(), http.MethodPost, "/api/v1/join-tokens", "", map[string]string{"member": string(lost)}, nil)
		})
		if futago.CodeOf(err) != futago.CodeConflict {
			t.Errorf("a token for %s, which runs: %v", lost, err)
		}
		s.mustStop(lost)
		s.eventually("the survivor goes on alone", func() error { return s.custom(survivor, "without "+string(lost)) })
		s.must(os.Rename(s.dir(lost), s.dir(lost)+".lost"))
		// The new host has another address.
		s.hosts[lost] = strings.TrimSuffix(s.hosts[lost], "0") + "9"
		s.join(survivor, lost)
		s.start(lost)
		s.awaitWord(survivor, futago.RedundancyFull)
		st := s.awaitWord(lost, futago.RedundancyFull)
		if st.Equality.State != "equal" {
			t.Errorf("databases are %s", st.Equality.State)
		}
		s.recorded(lost, "before")
		s.recorded(lost, "k=without "+string(lost))
		s.send("after "+string(lost), lost)
		s.recorded(survivor, "after "+string(lost))
	}
}

// TestManager_ReplacedDirectory brings a directory back whose place another one
// has taken meanwhile: it must take no part and say why.
func TestManager_ReplacedDirectory(t *testing.T) {
	s := newPair(t)
	s.mustStop(futago.MemberB)
	s.must(os.Rename(s.dir(futago.MemberB), s.dir(futago.MemberB)+".old"))
	s.join(futago.MemberA, futago.MemberB)
	s.start(futago.MemberB)
	s.awaitWord(futago.MemberA, futago.RedundancyFull)
	s.mustStop(futago.MemberB)
	s.must(os.Rename(s.dir(futago.MemberB), s.dir(futago.MemberB)+".new"))
	s.must(os.Rename(s.dir(futago.MemberB)+".old", s.dir(futago.MemberB)))
	s.start(futago.MemberB)
	s.awaitWord(futago.MemberB, futago.RedundancyStoppedSafe, "it refuses this member's certificate")
	s.awaitWord(futago.MemberA, futago.RedundancyNoSpare, "another has joined in its place")
	if log := s.running[futago.MemberA].log.String(); !strings.Contains(log, "this directory of member b was given up") {
		t.Errorf("a's log does not say whom it refuses: %s", log)
	}
	// The cluster goes on without it.
	s.eventually("a works", func() error { return s.custom(futago.MemberA, "still here") })
}

// TestManager_ShutdownAnswers stops the leader while custom traps wait for
// their commit: each of them gets an answer, and what was answered is recorded.
func TestManager_ShutdownAnswers(t *testing.T) {
	s := newPair(t)
	leader := s.leader(futago.MemberA)
	const n = 40
	results := make(chan error, n)
	for i := range n {
		go func() {
			time.Sleep(time.Duration(i) * 5 * time.Millisecond) // spread over the shutdown
			err := s.custom(leader, fmt.Sprintf("trap %d", i))
			if err == nil {
				err = fmt.Errorf("committed %d", i)
			}
			results <- err
		}()
	}
	committed := map[string]bool{}
	for i := range n {
		err := <-results
		if i == n/4 {
			s.mustStop(leader)
		}
		if msg, ok := strings.CutPrefix(err.Error(), "committed "); ok {
			committed[msg] = true
		}
	}
	if len(committed) == 0 {
		t.Fatal("nothing was committed")
	}
	for msg := range committed {
		s.recorded(leader.Peer(), "k=trap "+msg)
	}
}

// TestManager_Metrics gathers what a member tells, with a session and without.
func TestManager_Metrics(t *testing.T) {
	s := newPair(t)
	s.send("counted", futago.MemberA)
	s.recorded(futago.MemberA, "counted")
	value := func(name, label string) (v float64, ok bool) {
		t.Helper()
		families, err := s.metrics[futago.MemberA].Gather()
		s.must(err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
				}
			}
		}
		return 0, false
	}
	for _, want := range []struct {
		name, label string
		least       float64
	}{
		{"futago_member_state", "running", 1},
		{"futago_applied_index", "", 1},
		{"futago_received_total", "syslog/udp", 1},
		{"futago_spool_appended_total", "", 1},
		{"futago_third_vote_reachable", "", 1},
		{"futago_queue_depth", "reports", 0},
		{"process_open_fds", "", 1},
		{"go_goroutines", "", 1},
	} {
		if v, ok := value(want.name, want.label); !ok || v < want.least {
			t.Errorf("%s{%s} is %g, %t", want.name, want.label, v, ok)
		}
	}
	s.mustStop(futago.MemberA)
	flip(t, s.dir(futago.MemberA)+"/raft.db", 40)
	s.start(futago.MemberA)
	s.stopped(futago.MemberA, futago.CodeCorrupt)
	if v, ok := value("futago_member_state", "corrupt"); !ok || v != 1 {
		t.Errorf("a stopped member's state is %g, %t", v, ok)
	}
	if _, ok := value("futago_applied_index", ""); ok {
		t.Error("a stopped member tells an applied index")
	}
}
