package raftfsm

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote"
	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// VoteConfig is the register kind of third vote.
type VoteConfig struct {
	Register register.Register
	// OnEvent is told what happens around the third vote; it returns at once.
	OnEvent func(thirdvote.Event)
}

// newVoter reads the register and wraps the transport, before Raft starts.
func (n *Node) newVoter(ctx context.Context) (closableTransport, error) {
	v, err := thirdvote.Open(ctx, thirdvote.Config{
		Self: n.member, Identity: register.Identity(n.cfg.Dir.Node().Identity()), Register: n.cfg.Vote.Register,
		Peer: greeter{n}, File: n.cfg.Dir.Path(voteFile),
		HeartbeatTimeout: n.timing.Heartbeat, Logger: n.cfg.Logger, OnEvent: n.cfg.Vote.OnEvent,
	}, n.logs)
	if err != nil {
		return nil, err
	}
	n.voter = v
	return v.Transport(snapshotTransport{n.transport})
}

// greeter asks the other manager over the member link.
type greeter struct{ n *Node }

func (g greeter) Exchange(ctx context.Context, q thirdvote.Greeting) (a thirdvote.Greeting, err error) {
	b, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	err = g.n.peers[g.n.member.Peer()].call(ctx, http.MethodPost, "/peer/v1/greeting", b, &a)
	return a, err
}

// greeted answers the other manager's greeting.
func (n *Node) greeted(w http.ResponseWriter, r *http.Request) {
	if n.voter == nil {
		http.Error(w, "this cluster has no register", http.StatusNotFound)
		return
	}
	var q thirdvote.Greeting
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&q); err != nil {
		http.Error(w, "this is no greeting", http.StatusBadRequest)
		return
	}
	a, err := n.voter.Greet(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	writeJSON(w, a)
}

// VoteStatus is this manager's view of the register; ok is false where the
// third vote is a manager.
func (n *Node) VoteStatus() (s thirdvote.Status, ok bool) {
	if n.voter == nil {
		return s, false
	}
	return n.voter.Status(), true
}

// Switch hands leadership to the other manager: a planned switch. Errors:
// CodeNotLeader on a standby, CodeUnavailable when the other one cannot take it.
func (n *Node) Switch() error {
	if !n.acting.Load() {
		e := futago.Errorf(futago.CodeNotLeader, "member %s does not lead", n.member)
		e.Leader, _ = n.Leader()
		return e
	}
	if err := n.transfer(); err != nil {
		return futago.Errorf(futago.CodeUnavailable, "manager %s did not take over", n.member.Peer()).
			WithAction("see futago status: it must be reachable and caught up").Wrap(err)
	}
	return nil
}
