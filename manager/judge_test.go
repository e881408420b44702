package manager

import (
	"strings"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

// healthy is a cluster with nothing to wish for, as manager a sees it.
func healthy() *futago.ClusterStatus {
	running := futago.LocalStatus{State: stateRunning}
	return &futago.ClusterStatus{
		ReportedBy: futago.MemberA, Leader: futago.MemberA,
		Members: []futago.MemberStatus{
			{Member: futago.MemberA, Address: "a:7700", Reachable: true, Local: running},
			{Member: futago.MemberB, Address: "b:7700", Reachable: true, Local: running},
		},
		ThirdVote: futago.ThirdVoteStatus{Kind: string(cluster.ThirdVoteRegister), Reachable: true, Holders: "a,b", Address: "https://w:7702"},
		Equality:  futago.Equality{State: equalityEqual},
	}
}

// third makes the third vote of st a manager.
func third(st *futago.ClusterStatus) *futago.MemberStatus {
	st.ThirdVote = futago.ThirdVoteStatus{Kind: string(cluster.ThirdVoteManager), Reachable: true}
	st.Members = append(st.Members, futago.MemberStatus{
		Member: futago.MemberW, Address: "w:7701", Reachable: true, Local: futago.LocalStatus{State: stateRunning},
	})
	return &st.Members[2]
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*futago.ClusterStatus)
		want   futago.Redundancy
		find   []string // in this order, one finding each
	}{
		{"all well", func(*futago.ClusterStatus) {}, futago.RedundancyFull, nil},
		{"third manager, all well", func(st *futago.ClusterStatus) { third(st) }, futago.RedundancyFull, nil},
		{"standby dead", func(st *futago.ClusterStatus) {
			st.Members[1] = futago.MemberStatus{Member: futago.MemberB, Address: "b:7700", Problem: "refused"}
			st.ThirdVote.Holders = "a"
		}, futago.RedundancyNoSpare, []string{"manager b does not answer"}},
		{"standby never joined", func(st *futago.ClusterStatus) {
			st.Members[1] = futago.MemberStatus{Member: futago.MemberB, Problem: "unknown"}
			st.ThirdVote.Holders = "a"
		}, futago.RedundancyNoSpare, []string{"futago token join --member b"}},
		{"standby's disk full", func(st *futago.ClusterStatus) {
			st.Members[1].Local = futago.LocalStatus{State: "storage-full", Detail: "no room; free some"}
			st.ThirdVote.Holders = "a"
		}, futago.RedundancyNoSpare, []string{"manager b does not take part: no room; free some"}},
		{"standby starting", func(st *futago.ClusterStatus) {
			st.Members[1].Local = futago.LocalStatus{State: stateStarting}
		}, futago.RedundancyNoSpare, []string{"it is starting"}},
		{"standby taken back", func(st *futago.ClusterStatus) { st.ThirdVote.Holders = "a" }, futago.RedundancySurvivesOne, []string{"only manager a is recorded"}},
		{"standby behind", func(st *futago.ClusterStatus) { st.Members[1].Lag = caughtUp + 1 }, futago.RedundancySurvivesOne, []string{"4097 entries behind"}},
		{"standby nearly in step", func(st *futago.ClusterStatus) { st.Members[1].Lag = caughtUp }, futago.RedundancyFull, nil},
		{"witness dead", func(st *futago.ClusterStatus) {
			st.ThirdVote.Reachable, st.ThirdVote.Problem = false, "time-out"
		}, futago.RedundancyNoSpare, []string{"witness at https://w:7702 (time-out)"}},
		{"witness and standby dead", func(st *futago.ClusterStatus) {
			st.Leader, st.ThirdVote.Reachable, st.Members[1].Reachable = "", false, false
		}, futago.RedundancyStoppedSafe, []string{"knows no leader", "manager b does not answer", "the third vote does not answer"}},
		{"third member dead", func(st *futago.ClusterStatus) {
			third(st).Reachable, st.ThirdVote.Reachable = false, false
		}, futago.RedundancyNoSpare, []string{"the third member w does not take part"}},
		{"third member behind", func(st *futago.ClusterStatus) { third(st).Lag = caughtUp + 1 }, futago.RedundancySurvivesOne, []string{"the third member w is 4097"}},
		{"this manager does not take part, the other leads", func(st *futago.ClusterStatus) {
			st.Leader, st.Members[0].Local = futago.MemberB, futago.LocalStatus{State: "corrupt", Detail: "raft.db is damaged"}
		}, futago.RedundancyNoSpare, []string{"manager a does not take part: raft.db is damaged"}},
		{"databases differ", func(st *futago.ClusterStatus) {
			st.Equality = futago.Equality{State: equalityDifferent, Index: 7}
		}, futago.RedundancyNoSpare, []string{"differ at entry 7"}},
		{"traps lost and clock off", func(st *futago.ClusterStatus) {
			st.Members[0].Local.Spool.Overflowed = 9
			st.Members[1].ClockOffset = futago.Duration(-time.Hour)
		}, futago.RedundancyFull, []string{"manager a lost 9 traps", "clock of manager b is -1h0m0s off"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := healthy()
			test.change(st)
			judge(st)
			if st.Redundancy != test.want {
				t.Errorf("%s, want %s", st.Redundancy, test.want)
			}
			if len(st.Findings) != len(test.find) {
				t.Fatalf("findings %q, want %q", st.Findings, test.find)
			}
			for i, f := range test.find {
				if !strings.Contains(st.Findings[i], f) {
					t.Errorf("finding %d is %q, want %q in it", i, st.Findings[i], f)
				}
			}
		})
	}
}
