package manager

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/version"
)

// statusTimeout bounds the questions to the other members behind one status.
const statusTimeout = time.Second

// caughtUp is how many entries a standby may be behind and still count as in step.
const caughtUp = 4096

// local is what a member tells its peers beside its Raft state.
type local struct {
	futago.LocalStatus
	Members map[futago.MemberID]cluster.Addresses `json:"members"`
}

// answer is a peer's Hello, taken apart.
type answer struct {
	raftfsm.Hello
	local  local
	offset time.Duration // its clock minus ours
}

func (m *Manager) ask(ctx context.Context, s *session, id futago.MemberID) (a answer, err error) {
	before := m.now()
	if a.Hello, err = s.raft.Ask(ctx, id, s.machine.Applied().Index); err != nil {
		return a, err
	}
	after := m.now()
	// The peer read its clock somewhere between; the middle is the best guess.
	a.offset = a.Now.Sub(before.Add(after.Sub(before) / 2))
	if len(a.Local) > 0 {
		if err := json.Unmarshal(a.Local, &a.local); err != nil {
			return a, fmt.Errorf("status of member %s: %w", id, err)
		}
	}
	return a, nil
}

func (m *Manager) localStatus() local {
	m.mu.Lock()
	state, reason := m.state, m.reason
	m.mu.Unlock()
	l := local{Members: m.dir.Node().Members, LocalStatus: futago.LocalStatus{
		Version: version.String(), StartedAt: m.startedAt, State: state,
		DatabaseBytes: m.databaseBytes(), Queues: []futago.QueueStatus{m.reports.status()},
	}}
	if reason != nil {
		l.Detail = reason.Error()
	}
	if free, err := freeBytes(m.cfg.DataDir); err == nil {
		l.FreeBytes = free
	}
	if m.intake != nil {
		m.intake.fill(&l.LocalStatus)
	}
	return l
}

func freeBytes(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// status asks every member and judges what the cluster can still survive.
func (m *Manager) status(ctx context.Context) futago.ClusterStatus {
	st := futago.ClusterStatus{
		ClusterName: m.node.ClusterName, ClusterID: m.node.ClusterID, ReportedBy: m.node.Member, Now: m.now().UTC(),
		ThirdVote: futago.ThirdVoteStatus{Kind: string(m.node.ThirdVote)}, Equality: futago.Equality{State: "unknown"},
	}
	ids := []futago.MemberID{futago.MemberA, futago.MemberB}
	if m.node.ThirdVote == cluster.ThirdVoteManager {
		ids = append(ids, futago.MemberW)
	}
	s, err := m.session()
	if err != nil {
		self := m.memberStatus(m.node.Member)
		self.Local = m.localStatus().LocalStatus
		st.Members = []futago.MemberStatus{self}
		judge(&st, err)
		return st
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	answers := m.askAll(ctx, s, ids)
	var commit uint64
	for _, id := range ids {
		ms := m.memberStatus(id)
		if a, ok := answers[id]; ok && a.err == nil {
			a.fill(&ms)
			if a.Acting {
				st.Leader, st.LeaderSince, st.Term, commit = id, a.LeaderSince, a.Term, a.Commit
			}
		} else if ok {
			ms.Problem = a.err.Error()
		}
		st.Members = append(st.Members, ms)
	}
	for i := range st.Members {
		if ms := &st.Members[i]; ms.Reachable && commit > ms.Applied {
			ms.Lag = commit - ms.Applied
		}
	}
	if st.Term == 0 {
		st.Term = answers[m.node.Member].Term
	}
	m.thirdVote(&st, s, answers)
	compare(&st, s, answers)
	judge(&st, nil)
	return st
}

type asked struct {
	answer
	err error
}

func (m *Manager) askAll(ctx context.Context, s *session, ids []futago.MemberID) map[futago.MemberID]asked {
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[futago.MemberID]asked{}
	for _, id := range ids {
		if id == m.node.Member {
			h := s.raft.Hello(0)
			mu.Lock()
			out[id] = asked{answer: answer{Hello: h, local: m.localStatus()}}
			mu.Unlock()
			continue
		}
		wg.Go(func() {
			a, err := m.ask(ctx, s, id)
			mu.Lock()
			defer mu.Unlock()
			out[id] = asked{a, err}
		})
	}
	wg.Wait()
	return out
}

func (m *Manager) memberStatus(id futago.MemberID) futago.MemberStatus {
	return futago.MemberStatus{Member: id, Address: m.dir.Node().Members[id].API}
}

func (a *asked) fill(ms *futago.MemberStatus) {
	ms.Reachable, ms.Role, ms.Term = true, a.Role, a.Term
	ms.LastLog, ms.Commit, ms.Applied, ms.Hash = a.LastLog, a.Commit, a.Applied, a.Hash
	ms.ClockOffset, ms.LogBytes, ms.Local = futago.Duration(a.offset.Round(100*time.Microsecond)), a.LogBytes, a.local.LocalStatus
}

// thirdVote describes the third vote as this member sees it.
func (m *Manager) thirdVote(st *futago.ClusterStatus, s *session, answers map[futago.MemberID]asked) {
	tv := &st.ThirdVote
	v, ok := s.raft.VoteStatus()
	if !ok {
		w := answers[futago.MemberW]
		tv.Reachable, tv.ReadAt = w.err == nil, st.Now
		if w.err != nil {
			tv.Problem = w.err.Error()
		}
		return
	}
	tv.Reachable, tv.Problem, tv.Address = v.Reachable, v.LastError, m.witnessURL()
	if v.ReadAge > 0 {
		tv.ReadAt = st.Now.Add(-v.ReadAge)
	}
	tv.Version, tv.Term, tv.VotedFor, tv.Solo = v.Record.Version, v.Record.Term, v.Record.VotedFor, v.Solo
	if b, err := v.Record.Holders.MarshalText(); err == nil {
		tv.Holders = string(b)
	}
	if tv.Reachable {
		tv.Problem = ""
	}
}

// compare holds the two managers' running hashes against each other, at an
// index that both have applied.
func compare(st *futago.ClusterStatus, s *session, answers map[futago.MemberID]asked) {
	peer, ok := answers[st.ReportedBy.Peer()]
	if !ok || peer.err != nil {
		return
	}
	set := func(index uint64, equal bool) {
		st.Equality = futago.Equality{State: "different", Index: index}
		if equal {
			st.Equality.State = "equal"
		}
	}
	// We asked for its hash at our index; if it was behind, look for ours at its.
	own := s.machine.Applied()
	if sum, ok := s.machine.HashAt(peer.AskedIndex); ok && peer.AskedHash != "" {
		set(peer.AskedIndex, hex.EncodeToString(sum[:]) == peer.AskedHash)
	} else if sum, ok := s.machine.HashAt(peer.Applied); ok && peer.Applied <= own.Index {
		set(peer.Applied, hex.EncodeToString(sum[:]) == peer.Hash)
	}
}

// judge finds the redundancy word and says what is missing. The definitions
// are in docs/third-vote.md.
func judge(st *futago.ClusterStatus, stopped error) {
	find := func(format string, args ...any) { st.Findings = append(st.Findings, fmt.Sprintf(format, args...)) }
	managers, behind := 0, futago.MemberID("")
	for _, ms := range st.Members {
		switch {
		case !ms.Reachable && ms.Member == futago.MemberW:
			// Reported with the third vote.
		case !ms.Reachable && ms.Address == "":
			find("manager %s has not joined yet: issue a token (futago token join --member %s) and run futago join on its host", ms.Member, ms.Member)
		case !ms.Reachable:
			find("manager %s does not answer: look at its host and at the network between (%s)", ms.Member, ms.Problem)
		case ms.Local.State != "running":
			find("member %s does not take part: %s", ms.Member, ms.Local.Detail)
		default:
			if ms.Member != futago.MemberW {
				managers++
			}
			if ms.Lag > caughtUp {
				behind = ms.Member
				find("manager %s is %d entries behind and catching up", ms.Member, ms.Lag)
			}
		}
	}
	holdersShort := st.ThirdVote.Kind == string(cluster.ThirdVoteRegister) && st.ThirdVote.Reachable && st.ThirdVote.Holders != "a,b"
	switch {
	case stopped != nil:
		st.Redundancy = futago.RedundancyStoppedSafe
		find("member %s does not take part: %v", st.ReportedBy, stopped)
	case st.Leader == "":
		st.Redundancy = futago.RedundancyStoppedSafe
		find("there is no leader, so nothing is written; traps are kept in the spools meanwhile")
	case managers < 2 || !st.ThirdVote.Reachable:
		st.Redundancy = futago.RedundancyNoSpare
	case behind != "" || holdersShort:
		st.Redundancy = futago.RedundancySurvivesOne
	default:
		st.Redundancy = futago.RedundancyFull
	}
	if !st.ThirdVote.Reachable && stopped == nil {
		find("the third vote does not answer: look at %s (%s)", thirdVoteName(st.ThirdVote), st.ThirdVote.Problem)
	}
	if holdersShort && managers == 2 {
		find("only manager %s is recorded as holding everything; the other one is being taken back", st.ThirdVote.Holders)
	}
	if st.Equality.State == "different" {
		find("the two databases differ at entry %d: this must not happen; take a copy of both data directories before anything else", st.Equality.Index)
	}
	for _, ms := range st.Members {
		if sp := ms.Local.Spool; sp.Overflowed > 0 {
			find("manager %s lost %d traps because its spool was full", ms.Member, sp.Overflowed)
		}
	}
}

func thirdVoteName(t futago.ThirdVoteStatus) string {
	if t.Address != "" {
		return "the witness at " + t.Address
	}
	return "member w"
}

// witnessURL is where the register is, for people.
func (m *Manager) witnessURL() string {
	inv, err := m.invitation()
	if err != nil {
		return ""
	}
	return inv.URL
}
