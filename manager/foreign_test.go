package manager_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

// TestManager_AnotherCluster puts a manager of another cluster at a's address:
// both sides refuse each other, write it down, and b's status names it.
func TestManager_AnotherCluster(t *testing.T) {
	s := newPair(t)
	s.mustStop(futago.MemberA)
	other := newSite(t, cluster.ThirdVoteManager)
	other.hosts[futago.MemberA] = s.hosts[futago.MemberA]
	r := other.start(futago.MemberA)
	s.awaitWord(futago.MemberB, futago.RedundancyNoSpare, "manager a does not answer", "is not of this cluster")
	for name, log := range map[string]*logBuffer{"b": s.running[futago.MemberB].log, "the other cluster's a": r.log} {
		want := map[bool]string{true: "is not of this cluster", false: "member link refused"}[name == "b"]
		s.eventually(name+" writes it down", func() error {
			if !strings.Contains(log.String(), want) {
				return fmt.Errorf("no %q in the log", want)
			}
			return nil
		})
	}
	s.must(s.custom(futago.MemberB, "goes on"))
}
