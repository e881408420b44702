package thirdvote

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// Transport is the Raft transport of a manager, with the third vote in it: it
// answers what is sent to w, keeps an unadmitted node silent (R6), and takes
// note of what the peer answers. Everything else is the wrapped transport's.
//
// It passes pre-vote on, without which the library turns that off without a
// word, and closes the wrapped transport. Log pipelining is refused for every
// server: a stalled follower can wedge it, and a pipeline to w would bypass the
// stub.
type Transport struct {
	raft.Transport
	v       *Voter
	preVote raft.WithPreVote

	start    sync.Once
	stop     sync.Once
	done     chan struct{}
	wg       sync.WaitGroup
	consumer chan raft.RPC
}

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

var errUnadmitted = errors.New("third vote: this data directory was never recorded, it does not campaign")

// Transport wraps inner, which must support pre-vote.
func (v *Voter) Transport(inner raft.Transport) (*Transport, error) {
	pv, ok := inner.(raft.WithPreVote)
	if !ok {
		return nil, errors.New("third vote: the transport does not support pre-vote")
	}
	return &Transport{Transport: inner, v: v, preVote: pv, done: make(chan struct{}), consumer: make(chan raft.RPC)}, nil
}

// Close stops the transport and closes the wrapped one, if that can be closed.
// Raft calls it at the end of its shutdown.
func (t *Transport) Close() error {
	t.stop.Do(func() { close(t.done) })
	t.start.Do(func() {}) // nobody starts after this
	t.wg.Wait()
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// AppendEntriesPipeline implements [raft.Transport]: there is none.
func (t *Transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements [raft.Transport].
func (t *Transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.v.sentOwn(args.Term, args.Entries)
	q := appendRequest(args)
	if id != ServerID {
		start := time.Now()
		err := t.Transport.AppendEntries(id, target, args, resp)
		if err != nil {
			t.v.peerFailed()
			return err
		}
		t.v.peerTook(start, args.Term, resp.Term, max(q.index, args.PrevLogEntry), resp.Success)
		return nil
	}
	if q.kind == rules.Append {
		t.v.asked(args.Term, args.PrevLogEntry)
	}
	rep, err := t.v.answer(q)
	if err != nil {
		return err
	}
	*resp = raft.AppendEntriesResponse{
		RPCHeader: header(), Term: rep.Term,
		LastLog: max(q.index, args.PrevLogEntry), Success: rep.Act == rules.ActGood,
	}
	return nil
}

// appendRequest says what a good answer to args would acknowledge: its entries.
// Without entries it acknowledges nothing, whatever it names as the entry
// before: the library advances a follower's match by the entries alone. It
// has to be so, for a new leader's first request may come before its no-op and
// name an entry of an older term, which can only commit together with the no-op
// that would then wait behind it.
func appendRequest(args *raft.AppendEntriesRequest) request {
	q := request{kind: rules.Append, term: args.Term}
	if n := len(args.Entries); n > 0 {
		q.index, q.entryTerm = args.Entries[n-1].Index, args.Entries[n-1].Term
		return q
	}
	// The library's own test for a heartbeat (net_transport.go, handleCommand).
	if args.PrevLogEntry == 0 && args.PrevLogTerm == 0 && args.LeaderCommitIndex == 0 {
		q.kind = rules.Heartbeat
	}
	return q
}

// InstallSnapshot implements [raft.Transport]. W needs no data, only the
// condition: a snapshot that was put in by an operator lies above the commit
// index, and w's acknowledgement would commit it with this node alone.
func (t *Transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if id != ServerID {
		start := time.Now()
		if err := t.Transport.InstallSnapshot(id, target, args, resp, data); err != nil {
			t.v.peerFailed()
			return err
		}
		t.v.peerTook(start, args.Term, resp.Term, args.LastLogIndex, resp.Success)
		return nil
	}
	rep, err := t.v.answer(request{kind: rules.Snapshot, term: args.Term, index: args.LastLogIndex, entryTerm: args.LastLogTerm})
	if err != nil {
		return err
	}
	*resp = raft.InstallSnapshotResponse{RPCHeader: header(), Term: rep.Term, Success: rep.Act == rules.ActGood}
	return nil
}

// RequestVote implements [raft.Transport].
func (t *Transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !t.mayCampaign() {
		return errUnadmitted
	}
	if id != ServerID {
		return t.noted(func() error { return t.Transport.RequestVote(id, target, args, resp) })
	}
	if t.v.raft.Load() == nil {
		return errNotBound
	}
	granted, term := t.v.vote(args.Term, false)
	*resp = raft.RequestVoteResponse{RPCHeader: header(), Term: term, Granted: granted}
	return nil
}

// RequestPreVote implements [raft.WithPreVote]. For w it never returns an
// error: the library takes an error whose text contains "unexpected command"
// for a granted pre-vote, and the texts of a register's errors are foreign.
func (t *Transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if !t.mayCampaign() {
		return errUnadmitted
	}
	if id != ServerID {
		return t.noted(func() error { return t.preVote.RequestPreVote(id, target, args, resp) })
	}
	granted, term := t.v.vote(args.Term, true)
	*resp = raft.RequestPreVoteResponse{RPCHeader: header(), Term: term, Granted: granted}
	return nil
}

// TimeoutNow implements [raft.Transport].
func (t *Transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if id == ServerID {
		return errNeverLeads
	}
	return t.Transport.TimeoutNow(id, target, args, resp)
}

func (t *Transport) noted(rpc func() error) error {
	start := time.Now()
	if err := rpc(); err != nil {
		t.v.peerFailed()
		return err
	}
	t.v.peerAnswered(start)
	return nil
}

func (t *Transport) mayCampaign() bool {
	if rules.MayCampaign(t.v.cfg.switches, t.v.Admitted()) {
		return true
	}
	t.v.muted()
	return false
}

func (v *Voter) muted() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count.Muted++
}

// Consumer implements [raft.Transport]. Raft takes the channel once.
func (t *Transport) Consumer() <-chan raft.RPC {
	t.start.Do(func() { t.wg.Go(t.filter) })
	return t.consumer
}

// filter hands on what comes in, but for what an unadmitted node must not heed.
func (t *Transport) filter() {
	in := t.Transport.Consumer()
	for {
		select {
		case rpc := <-in:
			if t.refused(rpc) {
				continue
			}
			select {
			case t.consumer <- rpc:
			case <-t.done:
				return
			}
		case <-t.done:
			return
		}
	}
}

// refused answers for a node that has no say (R6): no vote, and no election on
// request. Entries and snapshots pass.
func (t *Transport) refused(rpc raft.RPC) bool {
	admitted := t.v.Admitted()
	switch q := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		if rules.MayVote(t.v.cfg.switches, admitted) {
			return false
		}
		rpc.Respond(&raft.RequestVoteResponse{RPCHeader: q.RPCHeader, Term: t.v.term()}, nil)
	case *raft.RequestPreVoteRequest:
		if rules.MayVote(t.v.cfg.switches, admitted) {
			return false
		}
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: q.RPCHeader, Term: t.v.term()}, nil)
	case *raft.TimeoutNowRequest:
		if rules.MayCampaign(t.v.cfg.switches, admitted) {
			return false
		}
		rpc.Respond(&raft.TimeoutNowResponse{RPCHeader: q.RPCHeader}, errUnadmitted)
	default:
		return false
	}
	t.v.muted()
	return true
}
