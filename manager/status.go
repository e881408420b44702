package manager

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/version"
)

// localStatus is what this member knows of itself.
func (m *Manager) localStatus() local {
	m.mu.Lock()
	state, reason, s := m.state, m.reason, m.current
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
	if s != nil {
		l.ThirdVote = m.registerStatus(s)
	}
	return l
}

// status asks every member and judges what the cluster can still survive.
func (m *Manager) status(ctx context.Context) futago.ClusterStatus {
	st := futago.ClusterStatus{
		ClusterName: m.node.ClusterName, ClusterID: m.node.ClusterID, ReportedBy: m.node.Member, Now: m.now().UTC(),
		Equality: futago.Equality{State: equalityUnknown},
	}
	s, _ := m.session() // without one, this member's own state says why
	answers := m.askAll(ctx, s)
	var newest uint64
	for _, id := range m.ids() {
		ms := futago.MemberStatus{Member: id, Address: m.dir.Node().Members[id].API}
		a := answers[id]
		if a.err != nil {
			ms.Problem = problem(a.err)
		} else {
			a.fill(&ms)
		}
		// A leader that was cut off may still take itself for one.
		if a.Acting && a.Term > st.Term {
			st.Leader, st.LeaderSince, st.Term = id, a.LeaderSince, a.Term
		}
		newest = max(newest, ms.Applied)
		st.Members = append(st.Members, ms)
	}
	for i := range st.Members {
		if ms := &st.Members[i]; ms.Reachable {
			ms.Lag = newest - ms.Applied
		}
	}
	if st.Term == 0 {
		st.Term = answers[m.node.Member].Term
	}
	st.ThirdVote = m.thirdVote(&st, answers)
	if s != nil {
		compare(&st, s, answers)
	}
	judge(&st)
	return st
}

func (a *answer) fill(ms *futago.MemberStatus) {
	ms.Reachable, ms.Role, ms.Term = true, a.Role, a.Term
	ms.LastLog, ms.Commit, ms.Applied, ms.Hash = a.LastLog, a.Commit, a.Applied, a.Hash
	ms.ClockOffset, ms.LogBytes, ms.Local = futago.Duration(a.offset.Round(100*time.Microsecond)), a.LogBytes, a.local.LocalStatus
}

// thirdVote describes the third vote as this member sees it, or as the leader
// does where this one does not look.
func (m *Manager) thirdVote(st *futago.ClusterStatus, answers map[futago.MemberID]answer) futago.ThirdVoteStatus {
	if m.node.ThirdVote == cluster.ThirdVoteManager {
		w := answers[futago.MemberW]
		tv := futago.ThirdVoteStatus{Kind: string(cluster.ThirdVoteManager), ReadAt: st.Now, Reachable: w.err == nil && w.local.State == stateRunning}
		switch {
		case w.err != nil:
			tv.Problem = problem(w.err)
		case !tv.Reachable:
			tv.Problem = w.local.Detail
		}
		return tv
	}
	for _, id := range []futago.MemberID{m.node.Member, st.Leader} {
		if tv := answers[id].local.ThirdVote; tv != nil {
			return *tv
		}
	}
	return futago.ThirdVoteStatus{
		Kind: string(cluster.ThirdVoteRegister), Address: m.witnessURL(), Problem: "no manager that takes part has looked",
	}
}

// registerStatus is this member's view of the register, nil for the manager kind.
func (m *Manager) registerStatus(s *session) *futago.ThirdVoteStatus {
	v, ok := s.raft.VoteStatus()
	if !ok {
		return nil
	}
	tv := &futago.ThirdVoteStatus{
		Kind: string(cluster.ThirdVoteRegister), Address: m.witnessURL(), Reachable: v.Reachable,
		Version: v.Record.Version, Term: v.Record.Term, VotedFor: v.Record.VotedFor, Solo: v.Solo,
	}
	if v.ReadAge > 0 {
		tv.ReadAt = m.now().UTC().Add(-v.ReadAge)
	}
	if b, err := v.Record.Holders.MarshalText(); err == nil {
		tv.Holders = string(b)
	}
	if !tv.Reachable {
		tv.Problem = v.LastError
	}
	return tv
}

// The words of futago.Equality.
const (
	equalityEqual     = "equal"
	equalityDifferent = "different"
	equalityUnknown   = "unknown"
)

// compare holds the two managers' running hashes against each other, at an
// index that both have applied.
func compare(st *futago.ClusterStatus, s *session, answers map[futago.MemberID]answer) {
	peer, ok := answers[st.ReportedBy.Peer()]
	if !ok || peer.err != nil {
		return
	}
	set := func(index uint64, equal bool) {
		st.Equality = futago.Equality{State: equalityDifferent, Index: index}
		if equal {
			st.Equality.State = equalityEqual
		}
	}
	// We asked for its hash at our index; if it was behind, look for ours at its.
	own := s.machine.Applied()
	if sum, ok := s.machine.HashAt(peer.AskedIndex); ok && peer.AskedHash != "" {
		set(peer.AskedIndex, hex.EncodeToString(sum[:]) == peer.AskedHash)
	} else if sum, ok := s.machine.HashAt(peer.Applied); ok && peer.Hash != "" && peer.Applied <= own.Index {
		// A member without a database has no hash.
		set(peer.Applied, hex.EncodeToString(sum[:]) == peer.Hash)
	}
}

// witnessURL is where the register is, for people.
func (m *Manager) witnessURL() string {
	inv, err := m.invitation()
	if err != nil {
		return ""
	}
	return inv.URL
}
