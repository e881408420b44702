package thirdvote

import (
	"context"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// Greeting is what two managers tell each other, the leader about once per
// heartbeat time-out. It is small, and goes over the same authenticated
// connection as their other requests.
type Greeting struct {
	From     futago.MemberID   `json:"from"`
	Identity register.Identity `json:"identity"`
	// Term is the sender's current Raft term.
	Term uint64 `json:"term"`
	// Leading: the sender leads Term, by evidence that is younger than a
	// heartbeat time-out.
	Leading bool `json:"leading"`
	// Mark is the highest version of the register the sender knows (R7).
	Mark rules.Mark `json:"mark"`
}

// Peer asks the other manager. The other side answers with its
// [Voter.Greet], and nothing may cache or repeat an answer: it counts as
// evidence that is younger than the request.
type Peer interface {
	Exchange(ctx context.Context, q Greeting) (Greeting, error)
}

// Greet answers the peer's greeting. The version it names is on disk before
// the answer is returned.
func (v *Voter) Greet(q Greeting) (Greeting, error) {
	if q.From != v.cfg.Self.Peer() {
		return Greeting{}, futago.Errorf(futago.CodeInvalid, "greeting from %q", q.From)
	}
	if err := v.heardOf(q.Mark); err != nil {
		return Greeting{}, err
	}
	return v.greeting(), nil
}

// greeting is what this manager says about itself.
func (v *Voter) greeting() Greeting {
	g := Greeting{From: v.cfg.Self, Identity: v.cfg.Identity, Mark: v.mark(), Term: v.local().Term}
	if last, ok := v.LastEvidence(); ok && time.Since(last) < v.cfg.HeartbeatTimeout {
		g.Leading = true
	}
	return g
}

// exchange sends a greeting and takes the answer in. It is the call that
// v.greetings shares.
func (v *Voter) exchange(ctx context.Context) (Greeting, error) {
	if v.cfg.Peer == nil {
		return Greeting{}, errNoPeer
	}
	a, err := v.cfg.Peer.Exchange(ctx, v.greeting())
	if err != nil {
		return Greeting{}, err
	}
	if a.From != v.cfg.Self.Peer() {
		return Greeting{}, futago.Errorf(futago.CodeInvalid, "the peer says it is %q", a.From)
	}
	return a, v.heardOf(a.Mark)
}
