package thirdvote

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// lookAgain is how often a request to w that waits for the register alone looks
// whether its leadership is over; everything else wakes it.
const lookAgain = 20 * time.Millisecond

var (
	errTermOver   = errors.New("third vote: the leadership is over")
	errUnreadable = errors.New("third vote: the register cannot be read")
	errNeverLeads = errors.New("third vote: w never leads")
)

// request is one RPC to w that asks for an acknowledgement.
type request struct {
	kind      rules.Request
	term      uint64 // of the leadership
	index     uint64 // what a good answer acknowledges, 0 for nothing
	entryTerm uint64 // of the entry at index
}

// answer answers for w by the rules R1 and R5. It waits as long as they say,
// and returns an error for a heartbeat without evidence, and for a leadership
// that is over.
func (v *Voter) answer(q request) (rules.Reply, error) {
	after := v.reads.last()
	asked := false
	defer v.doneWaiting(q)
	for {
		ch := v.change()
		// The proof first: what it rests on is over by the time the leadership
		// is looked at, however long this process was frozen in between.
		p := v.proof(after, q.term)
		rep := rules.Answer(v.cfg.switches, v.local(), q.kind, q.term, q.index, p)
		pause := lookAgain
		switch rep.Act {
		case rules.ActGood:
			return rep, nil
		case rules.ActDepose:
			v.deposed()
			return rep, nil
		case rules.ActError:
			if rep.Reason == rules.ReasonTermOver {
				return rep, errTermOver
			}
			return rep, errUnreadable
		case rules.ActWait:
		}
		if rep.Reason == rules.ReasonUncommitted {
			// Evidence from before the wait would renew the lease with old news.
			after, asked = v.reads.last(), false
			v.nowWaiting(q)
			pause = v.cfg.CommitPoll
		} else {
			v.doneWaiting(q)
			if !asked || p.Failed {
				// Entries that are committed without w need no quick answer, so
				// their read is mostly that of the next heartbeat.
				delay := time.Duration(0)
				if q.kind != rules.Heartbeat {
					delay = v.cfg.HeartbeatTimeout / 10
				}
				if p.Failed {
					delay = v.cfg.HeartbeatTimeout / 4
					after = v.reads.last()
				}
				v.reads.want(delay)
				asked = true
			}
		}
		t := time.NewTimer(pause)
		select {
		case <-ch:
		case <-t.C:
		}
		t.Stop()
	}
}

// proof is what the register said to reads begun after the one numbered after.
// A record in a higher term is proof however old its reading is, for terms
// never fall.
func (v *Voter) proof(after, term uint64) rules.Proof {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.rec.Term > term:
		return rules.Proof{Read: true, Term: v.rec.Term}
	case v.goodSeq > after:
		return rules.Proof{Read: true, Term: v.goodTerm}
	default:
		return rules.Proof{Failed: v.badSeq > after}
	}
}

func (v *Voter) nowWaiting(q request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting != nil && v.waiting.term == q.term && v.waiting.index == q.index {
		return
	}
	v.waiting = &waiting{term: q.term, entryTerm: q.entryTerm, index: q.index, since: time.Now()}
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *Voter) doneWaiting(q request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting != nil && v.waiting.term == q.term && v.waiting.index == q.index {
		v.waiting = nil
	}
}

func (v *Voter) deposed() {
	v.mu.Lock()
	v.count.Deposed++
	v.mu.Unlock()
	v.tell(EventDeposed, rules.ReasonTermAbove, nil)
}

// vote asks w for its vote in term (R4), for this manager. A trial asks whether
// it would be given, and writes nothing. The answer's term is above term if the
// register's is.
func (v *Voter) vote(term uint64, trial bool) (granted bool, answerTerm uint64) {
	const tries = 3 // a record moves under a candidate once or twice, not for ever
	for range tries {
		rep, ok := v.voteOnce(term, trial)
		if !ok {
			continue
		}
		v.mu.Lock()
		switch {
		case trial:
		case rep.Granted:
			v.count.Votes++
		default:
			v.count.VotesRefused++
		}
		v.mu.Unlock()
		return rep.Granted, rep.Term
	}
	return false, term
}

// voteOnce is one try; ok is false if another may succeed.
func (v *Voter) voteOnce(term uint64, trial bool) (rep rules.VoteReply, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), v.cfg.ReadTimeout+v.cfg.WriteTimeout)
	defer cancel()
	var peer *flight[Greeting]
	if trial && v.cfg.Peer != nil {
		peer = v.greetings.want(0)
	}
	rec, err := v.reads.do(ctx)
	if err != nil {
		return rules.VoteReply{Term: term, Reason: rules.ReasonUnreadable}, true
	}
	l := v.local()
	rep = rules.Vote(v.cfg.switches, l, rec, term)
	switch {
	case trial:
		rep.Granted = rep.Granted || rep.Write
		if rep.Granted && v.peerLeads(peer, term) {
			return rules.VoteReply{Term: term, Reason: rules.ReasonPeerLeads}, true
		}
		return rep, true
	case !rep.Write:
		if !rep.Granted {
			v.cfg.Logger.Info("w refuses its vote", "term", term, "reason", string(rep.Reason), "record", rec.String())
		}
		return rep, true
	case l.Term != term:
		// The candidate is past this term: its vote would be of no use.
		return rules.VoteReply{Term: term, Reason: rules.ReasonTermOver}, true
	}
	res, err := v.write(ctx, rep.Change)
	alone, _ := v.grant(rep.Change, res)
	switch res {
	case rules.Done:
		rep.Granted = true
		v.tell(EventVoted, rep.Reason, nil)
		if alone {
			v.soloBy(rules.KindVote)
		}
		return rep, true
	case rules.Refused:
		v.cfg.Logger.Info("the record moved under a vote", "term", term, "error", err)
		return rules.VoteReply{}, false
	default:
		v.cfg.Logger.Warn("w's vote was not answered", "term", term, "error", err)
		return rules.VoteReply{Term: term, Reason: rules.ReasonNotAnswered}, true
	}
}

// peerLeads reports whether the peer says that it leads, and has evidence for
// it. Any other third voter refuses a pre-vote while it hears from a leader; w
// hears nothing, so without this question a manager that was frozen for a moment
// would win an election against a leader in good health. A peer that is gone
// costs a tenth of a heartbeat time-out here.
func (v *Voter) peerLeads(f *flight[Greeting], term uint64) bool {
	if f == nil {
		return false
	}
	t := time.NewTimer(v.cfg.HeartbeatTimeout / 10)
	defer t.Stop()
	select {
	case <-f.done:
		// A trial is for the term after the candidate's.
		return f.err == nil && f.val.Leading && f.val.Term+1 >= term
	case <-t.C:
		return false
	}
}

// header is the one of w's answers.
func header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(ServerID), Addr: []byte(Address)}
}
