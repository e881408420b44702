package manager

import (
	"fmt"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

// caughtUp is how many entries a member may be behind and still count as in step.
const caughtUp = 4096

// clockTolerance is how far the managers' clocks may be apart unremarked. The
// same-trap judgement compares times of arrival on both.
const clockTolerance = 2 * time.Second

// judge finds the redundancy word and the findings, most urgent first. The
// words are defined in docs/third-vote.md.
func judge(st *futago.ClusterStatus) {
	j := &judgement{st: st}
	differ := st.Equality.State == equalityDifferent
	if differ {
		j.find("the two databases differ at entry %d, which must not happen: take a copy of both data directories before anything else", st.Equality.Index)
	}
	if st.Leader == "" {
		j.find("manager %s knows no leader, so nothing is written; traps are kept in the spools meanwhile", st.ReportedBy)
	}
	managers, behind := j.members()
	vote := j.vote()
	short := j.holders(managers)
	j.small()
	switch {
	case st.Leader == "":
		st.Redundancy = futago.RedundancyStoppedSafe
	case managers < 2 || !vote || differ:
		st.Redundancy = futago.RedundancyNoSpare
	case behind || short:
		st.Redundancy = futago.RedundancySurvivesOne
	default:
		st.Redundancy = futago.RedundancyFull
	}
}

// judgement is a status being judged.
type judgement struct{ st *futago.ClusterStatus }

func (j *judgement) find(format string, args ...any) {
	j.st.Findings = append(j.st.Findings, fmt.Sprintf(format, args...))
}

// members counts the managers that take part, and tells whether a member is behind.
func (j *judgement) members() (managers int, behind bool) {
	for _, ms := range j.st.Members {
		third := ms.Member == futago.MemberW
		switch {
		case ms.Reachable && ms.Local.State == stateRunning:
			if !third {
				managers++
			}
			if ms.Lag > caughtUp {
				behind = true
				j.find("%s is %d entries behind and catches up", name(ms.Member), ms.Lag)
			}
		case third:
			// Reported as the third vote.
		case ms.Reachable:
			j.find("%s does not take part: %s", name(ms.Member), detail(ms.Local))
		case ms.Address == "":
			j.find("manager %s has not joined yet: issue a token (futago token join --member %[1]s) and run futago join on its host", ms.Member)
		default:
			j.find("manager %s does not answer: look at its host and at the network between (%s)", ms.Member, ms.Problem)
		}
	}
	return managers, behind
}

func name(m futago.MemberID) string {
	if m == futago.MemberW {
		return "the third member w"
	}
	return "manager " + string(m)
}

func detail(l futago.LocalStatus) string {
	if l.Detail == "" {
		return "it is " + l.State
	}
	return l.Detail
}

// vote reports whether the third vote can be had.
func (j *judgement) vote() bool {
	v := j.st.ThirdVote
	switch {
	case v.Reachable:
	case v.Kind == string(cluster.ThirdVoteRegister):
		j.find("the third vote does not answer: look at the witness at %s (%s)", v.Address, v.Problem)
	default:
		j.find("the third member w does not take part: look at its host, or join it (futago token join --member w) (%s)", v.Problem)
	}
	return v.Reachable
}

// holders reports whether one of the two managers alone is recorded as holding everything.
func (j *judgement) holders(managers int) bool {
	v := j.st.ThirdVote
	short := v.Kind == string(cluster.ThirdVoteRegister) && v.Reachable && v.Holders != "a,b"
	switch {
	case !short:
	case j.st.Leader == "" && v.Holders != string(j.st.ReportedBy):
		j.find("only manager %s is recorded as holding everything, so manager %s may not go on without it: start manager %[1]s; "+
			"if its disk is lost for good, see docs/third-vote.md (futago seize)", v.Holders, j.st.ReportedBy)
	case managers == 2:
		j.find("only manager %s is recorded as holding everything; the other one is being taken back", v.Holders)
	}
	return short
}

// small finds what does not change the redundancy.
func (j *judgement) small() {
	for _, ms := range j.st.Members {
		if n := ms.Local.Spool.Overflowed; n > 0 {
			j.find("manager %s lost %d traps since its start because its spool or its disk was full", ms.Member, n)
		}
		if off := ms.ClockOffset.D(); off.Abs() > clockTolerance {
			j.find("the clock of %s is %s off against manager %s: set both by NTP, for copies are matched by time of arrival",
				name(ms.Member), off.Round(100*time.Millisecond), j.st.ReportedBy)
		}
	}
}
