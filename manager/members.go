package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
)

// askTimeout bounds a question to another member.
const askTimeout = time.Second

// local is what a member tells its peers beside its Raft state.
type local struct {
	futago.LocalStatus
	Members map[futago.MemberID]cluster.Addresses `json:"members"`
	// ThirdVote is its view of the register; nil without a session.
	ThirdVote *futago.ThirdVoteStatus `json:"third_vote,omitempty"`
}

// answer is a member's Hello, taken apart.
type answer struct {
	raftfsm.Hello
	local  local
	offset time.Duration // its clock minus ours
	err    error         // why there is none
}

// ids are the members that this cluster has, joined or not.
func (m *Manager) ids() []futago.MemberID {
	ids := []futago.MemberID{futago.MemberA, futago.MemberB}
	if m.node.ThirdVote == cluster.ThirdVoteManager {
		ids = append(ids, futago.MemberW)
	}
	return ids
}

// hello is what this member says about itself while it has no session.
func (m *Manager) hello() raftfsm.Hello {
	l := m.localStatus()
	h := raftfsm.Hello{Member: m.node.Member, Directory: m.node.Directory, Role: "stopped", Now: m.now()}
	if l.State == stateStarting {
		h.Role = stateStarting
	}
	if b, err := json.Marshal(l); err == nil {
		h.Local = b
	}
	return h
}

// ask gets the Hello of one member, this one included. s may be nil.
func (m *Manager) ask(ctx context.Context, s *session, id futago.MemberID) (a answer) {
	if id == m.node.Member {
		if a.Hello = m.hello(); s != nil {
			a.Hello = s.raft.Hello(0)
		}
		a.local = m.localStatus()
		return a
	}
	before := m.now()
	if s != nil {
		a.Hello, a.err = s.raft.Ask(ctx, id, s.machine.Applied().Index)
	} else {
		a.Hello, a.err = m.link.Ask(ctx, id)
	}
	if a.err != nil {
		return a
	}
	// The peer read its clock somewhere between; the middle is the best guess.
	a.offset = a.Now.Sub(before.Add(m.now().Sub(before) / 2))
	if len(a.Local) > 0 {
		if err := json.Unmarshal(a.Local, &a.local); err != nil {
			a.err = fmt.Errorf("status of member %s: %w", id, err)
		}
	}
	return a
}

// checkOnly looks whether a process of this very member answers at the member's
// address and is not this one: then this data directory is a copy of the other's,
// and a copy would vote a second time.
func (m *Manager) checkOnly(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	h, err := m.link.Ask(ctx, m.node.Member)
	if err != nil {
		return nil //nolint:nilerr // nobody is there, or the way to oneself is closed
	}
	var l local
	if err := json.Unmarshal(h.Local, &l); err != nil || l.StartedAt.Equal(m.startedAt) {
		return nil //nolint:nilerr // it is this process, or one that does not say
	}
	return futago.Errorf(futago.CodeConflict, "member %s runs already at %s: this data directory is a copy of that one's",
		m.node.Member, m.dir.Node().Members[m.node.Member].Cluster).
		WithAction("never start a copy: remove it, and join this host with a token of its own (futago token join)")
}

// problem says in a few words why a member gave no answer.
func problem(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + askTimeout.String()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return "it refuses this member's certificate: one of the two is of another cluster, or was given up when another host joined in its place"
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the URL is nominal
	}
	return err.Error()
}

// askAll asks every member at once, within askTimeout.
func (m *Manager) askAll(ctx context.Context, s *session) map[futago.MemberID]answer {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ids := m.ids()
	all := make([]answer, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { all[i] = m.ask(ctx, s, id) })
	}
	wg.Wait()
	out := make(map[futago.MemberID]answer, len(ids))
	for i, id := range ids {
		out[id] = all[i]
	}
	return out
}

// memberInterval is how often the other members are asked whom they know.
const memberInterval = 5 * time.Second

// followMembers takes up, until ctx ends, the addresses of members that joined
// through the other manager: each manager knows only whom it admitted itself,
// and who was there when it joined.
func (m *Manager) followMembers(ctx context.Context) {
	t := time.NewTicker(memberInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s, _ := m.session() // none: the link asks
			for id, a := range m.askAll(ctx, s) {
				if id != m.node.Member && a.err == nil {
					m.learn(a.local.Members)
				}
			}
		}
	}
}

// learn takes up what another member knows and this one does not.
func (m *Manager) learn(members map[futago.MemberID]cluster.Addresses) {
	for id, a := range members {
		news, err := m.dir.AddMember(id, a)
		if err != nil {
			m.log.Error("write down a member's addresses", "of", string(id), "err", err)
			continue
		}
		if news {
			m.link.SetAddress(id, a.Cluster)
			m.log.Info("member found", "found", string(id), "cluster_address", a.Cluster)
		}
	}
}
