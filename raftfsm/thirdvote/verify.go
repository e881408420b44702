package thirdvote

import (
	"context"
	"errors"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

var errPeerGone = errors.New("third vote: the peer takes no entries")

// VerifyRead makes sure that this manager is the leader, and that nobody else
// has committed anything since (R8). It returns the index that must be applied
// before the read is served. It does not use the library's own check, which
// counts answers to heartbeats that were sent before it was asked.
//
// The only holder is sure at once; otherwise the peer is asked, and the
// register if the peer does not answer soon. Requests at the same time share
// both questions. Errors: *futago.Error with CodeNotLeader or CodeUnavailable.
func (v *Voter) VerifyRead(ctx context.Context) (index uint64, err error) {
	sw := v.cfg.switches
	l := v.local()
	if !l.Leader {
		return 0, futago.Errorf(futago.CodeNotLeader, "this manager is not the leader")
	}
	term, index := l.Term, l.Commit
	e := rules.ReadEvidence{OwnTermCommitted: v.ownCommitted(term, l.Commit)}
	ok, why := rules.MayServeRead(sw, v.local(), term, e)
	if ok {
		return index, nil
	}
	if why == rules.ReasonNoOwnTerm {
		return 0, v.unverified(why)
	}
	// While the peer is well, its word is nearer than the register's.
	peer := v.greetings.want(0)
	delay := v.cfg.HeartbeatTimeout / 10
	if v.cfg.Peer == nil || v.peerSilent() {
		delay = 0
	}
	reg := v.reads.want(delay)
	peerDone, regDone := peer.done, reg.done
	for {
		select {
		case <-peerDone:
			peerDone = nil
			if peer.err == nil {
				e.Peer, e.PeerTerm = true, peer.val.Term
			}
		case <-regDone:
			regDone = nil
			if reg.err == nil {
				e.Register, e.RegisterTerm = true, reg.val.Term
			}
		case <-ctx.Done():
			return 0, futago.Errorf(futago.CodeUnavailable, "the leadership could not be verified in time").Wrap(ctx.Err())
		}
		// After any wait: the leadership is looked at after the evidence.
		ok, why := rules.MayServeRead(sw, v.local(), term, e)
		switch {
		case ok:
			return index, nil
		case why != rules.ReasonNoEvidence, peerDone == nil && regDone == nil:
			return 0, v.unverified(why)
		}
	}
}

// peerSilent reports whether there is no point in waiting for the peer's word.
func (v *Voter) peerSilent() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.contact.failing || time.Since(v.contact.answered) >= v.cfg.DetectSilent
}

func (v *Voter) unverified(why rules.Reason) error {
	code := futago.CodeUnavailable
	if why == rules.ReasonTermOver || why == rules.ReasonTermAbove {
		code = futago.CodeNotLeader
	}
	return futago.Errorf(code, "the leadership is not verified: %s", why)
}
