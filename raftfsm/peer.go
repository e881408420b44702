package raftfsm

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// Hello is what a member says about itself to another one.
type Hello struct {
	Member    futago.MemberID `json:"member"`
	Directory string          `json:"directory"` // identity of its data directory
	Role      string          `json:"role"`      // leader, follower, candidate
	Acting    bool            `json:"acting"`
	// LeaderSince is when it began to act as leader, zero otherwise.
	LeaderSince time.Time       `json:"leader_since,omitzero"`
	Term        uint64          `json:"term"`
	Leader      futago.MemberID `json:"leader,omitempty"`
	LastLog     uint64          `json:"last_log"`
	Commit      uint64          `json:"commit"`
	Applied     uint64          `json:"applied"`
	Hash        string          `json:"hash"` // running hash at Applied
	// AskedIndex and AskedHash answer the question for the hash at one index;
	// AskedHash is empty when that index is too old or not applied yet.
	AskedIndex uint64          `json:"asked_index,omitempty"`
	AskedHash  string          `json:"asked_hash,omitempty"`
	LogBytes   int64           `json:"log_bytes"`
	Now        time.Time       `json:"now"`
	Local      json.RawMessage `json:"local,omitempty"`
}

// Hello describes this member. ask is an index whose hash is wanted, 0 for none.
func (n *Node) Hello(ask uint64) Hello {
	a := n.machine.Applied()
	h := Hello{
		Member: n.member, Directory: n.cfg.Dir.Node().Directory, Role: role(n.raft.State()), Acting: n.acting.Load(),
		Term: n.raft.CurrentTerm(), LastLog: n.raft.LastIndex(), Commit: n.raft.CommitIndex(),
		Applied: a.Index, Hash: hex.EncodeToString(a.Hash[:]), LogBytes: n.LogBytes(), Now: n.cfg.Now(),
	}
	h.Leader, _ = n.Leader()
	if h.Acting {
		h.LeaderSince = time.Unix(0, n.since.Load())
	}
	if ask > 0 {
		h.AskedIndex = ask
		// Beyond Applied the machine answers for what it has.
		if sum, ok := n.machine.HashAt(ask); ok && ask <= a.Index {
			h.AskedHash = hex.EncodeToString(sum[:])
		}
	}
	if n.cfg.LocalStatus != nil {
		if b, err := json.Marshal(n.cfg.LocalStatus()); err == nil {
			h.Local = b
		}
	}
	return h
}

func role(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Follower:
		return "follower"
	default:
		return "stopped"
	}
}

// Ask gets another member's Hello.
func (n *Node) Ask(ctx context.Context, m futago.MemberID, index uint64) (Hello, error) {
	p, ok := n.peers[m]
	if !ok {
		return Hello{}, futago.Errorf(futago.CodeInvalid, "member %s is no peer of %s", m, n.member)
	}
	var h Hello
	err := p.call(ctx, http.MethodGet, helloPath+"?index="+strconv.FormatUint(index, 10), nil, &h)
	return h, err
}

// Paths of the peers' requests.
const (
	helloPath   = "/peer/v1/hello"
	proposePath = "/peer/v1/propose"
)

const rpcIdleTimeout = 2 * time.Minute

// serveRPC answers the other members' requests until ctx ends.
func (n *Node) serveRPC(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+helloPath, func(w http.ResponseWriter, r *http.Request) {
		ask, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64) // absent or wrong: no question
		writeJSON(w, n.Hello(ask))
	})
	mux.HandleFunc("POST "+proposePath, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, n.serveProposal(w, r))
	})
	mux.HandleFunc("POST /peer/v1/greeting", n.greeted)
	return n.link.serveHTTP(ctx, mux)
}

// rpcListener ends with its node and not with the link, which outlives it.
type rpcListener struct {
	sublistener
	ctx context.Context //nolint:containedctx // net.Listener has no context to pass
}

func (s *rpcListener) Accept() (net.Conn, error) {
	select {
	case c := <-s.ch:
		return c, nil
	case <-s.ctx.Done():
		return nil, http.ErrServerClosed
	case <-s.l.done:
		return nil, http.ErrServerClosed
	}
}

func (n *Node) serveProposal(w http.ResponseWriter, r *http.Request) proposeResponse {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, command.MaxEntry))
	if err != nil {
		return proposeResponse{Error: toRPCError(futago.Errorf(futago.CodeInvalid, "the proposal broke off").Wrap(err))}
	}
	if !n.acting.Load() {
		e := futago.Errorf(futago.CodeNotLeader, "member %s is not the leader", n.member)
		e.Leader, _ = n.Leader()
		return proposeResponse{Error: toRPCError(e)}
	}
	// Never give the log something that apply would choke on.
	if _, err := command.Decode(b); err != nil {
		return proposeResponse{Error: toRPCError(err)}
	}
	f := n.submitLocal(b, nil)
	select {
	case <-f.done:
		return proposeResponse{Result: f.res, Error: toRPCError(f.err)}
	case <-r.Context().Done():
		return proposeResponse{Error: toRPCError(unknown(r.Context().Err()))}
	case <-n.closed:
		return proposeResponse{Error: toRPCError(unknown(errClosed))}
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client sees a broken answer as unknown
}

// VerifyRead returns nil when this member, as leader, may serve a read that
// shows every change acknowledged before the call (docs/third-vote.md, R8).
//
// The library's VerifyLeader is not used: it counts answers to heartbeats sent
// before the call, and any answer of whatever term.
func (n *Node) VerifyRead(ctx context.Context) error {
	if !n.acting.Load() {
		e := futago.Errorf(futago.CodeNotLeader, "member %s does not act as leader", n.member)
		e.Leader, _ = n.Leader()
		return e
	}
	if n.voter != nil {
		index, err := n.voter.VerifyRead(ctx)
		if err != nil {
			return err
		}
		return n.awaitApplied(ctx, index)
	}
	term, commit := n.raft.CurrentTerm(), n.raft.CommitIndex()
	if err := n.confirm(ctx, term); err != nil {
		return err
	}
	if n.raft.State() != raft.Leader || n.raft.CurrentTerm() != term {
		return futago.Errorf(futago.CodeNotLeader, "leadership was lost during the read")
	}
	return n.awaitApplied(ctx, commit)
}

// confirm asks the other members for proof that no later term has a leader.
func (n *Node) confirm(ctx context.Context, term uint64) error {
	// A later leader needs the votes of two of three members; one answer of
	// another member in this term, to a question asked now, excludes it.
	ctx, cancel := context.WithTimeout(ctx, n.timing.RPCTimeout())
	defer cancel()
	answers := make(chan error, len(n.peers))
	for m := range n.peers {
		n.pending.Go(func() {
			h, err := n.Ask(ctx, m, 0)
			if err == nil && h.Term != term {
				err = futago.Errorf(futago.CodeNotLeader, "member %s is in term %d", m, h.Term)
			}
			answers <- err
		})
	}
	var errs []error
	for range n.peers {
		err := <-answers
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return futago.Errorf(futago.CodeUnavailable, "no other member confirms this leader").Wrap(errors.Join(errs...))
}

// awaitApplied waits until the state machine has applied every command up to
// index. Raft's own applied index is no help: it counts an entry when it is
// handed to the state machine's goroutine, and it counts entries that the state
// machine never sees.
func (n *Node) awaitApplied(ctx context.Context, index uint64) error {
	var l raft.Log
	for ; index > n.machine.Applied().Index; index-- {
		err := n.logs.GetLog(index, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			return nil // compacted away, and so applied
		}
		if err != nil {
			return err
		}
		if l.Type == raft.LogCommand {
			break
		}
	}
	for n.machine.Applied().Index < index {
		select {
		case <-ctx.Done():
			return futago.Errorf(futago.CodeUnavailable, "entry %d is not applied yet", index).Wrap(ctx.Err())
		case <-n.closed:
			return futago.Errorf(futago.CodeUnavailable, "this member is stopping")
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}
