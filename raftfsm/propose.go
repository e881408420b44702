package raftfsm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/raftfsm/machine"
)

// An outcome is one of three. Done: the entry is committed and applied, and
// Result says what it did; a refusal by the state machine is done too, with an
// error in the Result. Refused: the entry is certainly in no log. Unknown:
// anything else, reported as CodeUnknown and never as a failure.

// retryPause is how long Propose waits before it looks for a leader again.
const retryPause = 10 * time.Millisecond

// Propose brings an entry into the log, through the leader wherever it is, and
// waits until it is applied there. It repeats the proposal as long as ctx
// allows, over lost answers and leader changes, which is harmless because the
// entry carries an id.
//
// Errors: CodeUnavailable when the entry is certainly not in the log,
// CodeUnknown when it may be, and whatever the state machine refused with.
func (n *Node) Propose(ctx context.Context, p command.Proposal) (machine.Result, error) {
	data, err := command.Encode(p)
	if err != nil {
		return machine.Result{}, err
	}
	maybe := false
	var last error
	for {
		res, err := n.proposeOnce(ctx, data)
		switch code := futago.CodeOf(err); code {
		case "":
			return res, res.Err()
		case futago.CodeUnknown:
			maybe, last = true, err
		case futago.CodeNotLeader, futago.CodeUnavailable:
			last = err
		default:
			return res, err
		}
		select {
		case <-ctx.Done():
			return machine.Result{}, undecided(maybe, last)
		case <-n.closed:
			return machine.Result{}, undecided(maybe, last)
		case <-time.After(retryPause):
		}
	}
}

func undecided(maybe bool, last error) error {
	if maybe {
		return futago.Errorf(futago.CodeUnknown, "the outcome of the change is unknown").
			WithAction("look whether it took effect, or repeat it with the same id").Wrap(last)
	}
	return futago.Errorf(futago.CodeUnavailable, "no leader took the change in time; nothing was changed").
		WithAction("see futago status for what is missing, then repeat").Wrap(last)
}

func (n *Node) proposeOnce(ctx context.Context, data []byte) (machine.Result, error) {
	leader, ok := n.Leader()
	switch {
	case !ok:
		return machine.Result{}, errNoLeader()
	case leader == n.member:
		f := n.submitLocal(data, nil)
		select {
		case <-f.done:
			return f.res, f.err
		case <-ctx.Done():
			return machine.Result{}, unknown(ctx.Err())
		case <-n.closed:
			return machine.Result{}, unknown(errClosed)
		}
	default:
		return n.peers[leader].propose(ctx, data)
	}
}

func errNoLeader() error {
	return futago.Errorf(futago.CodeUnavailable, "there is no leader now")
}

func unknown(err error) error {
	return futago.Errorf(futago.CodeUnknown, "outcome unknown").Wrap(err)
}

// localFuture is an entry given to this member's Raft.
type localFuture struct {
	done chan struct{} // closed when res and err are set
	res  machine.Result
	err  error
}

var errClosed = errors.New("this member stops")

// submitLocal hands an entry to this member's Raft. Entries submitted by one
// goroutine keep their order. Whoever waits for the outcome heeds n.closed too,
// see quiesce. When there is an outcome, then, unless nil, is called with it.
func (n *Node) submitLocal(data []byte, then func(*localFuture)) *localFuture {
	f := &localFuture{done: make(chan struct{})}
	finish := func() {
		close(f.done)
		if then != nil {
			then(f)
		}
	}
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.closing || !n.acting.Load() {
		f.err = futago.Errorf(futago.CodeNotLeader, "member %s does not act as leader", n.member)
		finish()
		return f
	}
	n.inRaft.Add(1)
	af := n.raft.Apply(data, n.timing.EnqueueTimeout())
	go func() {
		defer n.inRaft.Add(-1)
		defer finish()
		if err := af.Error(); err != nil {
			f.err = n.classify(err)
			return
		}
		switch r := af.Response().(type) {
		case machine.Result:
			f.res = r
		case error:
			f.err = unknown(r) // the entry is in the log; this member failed to apply it
		default:
			f.err = unknown(fmt.Errorf("apply answered %T", r))
		}
	}()
	return f
}

// quiesce takes no more entries and waits until the library has answered those
// it has. What lies in its queue when it is shut down is never answered: the
// goroutine that waits for it stays for good. That takes a library which cannot
// even lose the lead within its time-outs; everybody else is told by n.closed.
func (n *Node) quiesce() {
	n.gate.Lock()
	n.closing = true
	n.gate.Unlock()
	deadline := time.NewTimer(n.timing.EnqueueTimeout() + 2*n.timing.Heartbeat)
	defer deadline.Stop()
	for n.inRaft.Load() > 0 {
		select {
		case <-deadline.C:
			n.log.Warn("entries are left without an answer", "entries", n.inRaft.Load())
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// classify turns an error of raft's Apply into an outcome.
func (n *Node) classify(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return futago.Errorf(futago.CodeNotLeader, "member %s is not the leader", n.member).Wrap(err)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return futago.Errorf(futago.CodeUnavailable, "the leader is overloaded").Wrap(err)
	default: // leadership lost, shut down, aborted by a restore
		return unknown(err)
	}
}

// rpcError is how an error travels between members.
type rpcError struct {
	Code    futago.Code     `json:"code"`
	Message string          `json:"message"`
	Action  string          `json:"action,omitempty"`
	Leader  futago.MemberID `json:"leader,omitempty"`
}

func toRPCError(err error) *rpcError {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*futago.Error](err); ok {
		msg := e.Message
		if e.Err != nil {
			msg += ": " + e.Err.Error()
		}
		return &rpcError{Code: e.Code, Message: msg, Action: e.Action, Leader: e.Leader}
	}
	return &rpcError{Code: futago.CodeInternal, Message: err.Error()}
}

func (e *rpcError) err() error {
	if e == nil {
		return nil
	}
	return &futago.Error{Code: e.Code, Message: e.Message, Action: e.Action, Leader: e.Leader}
}

type proposeResponse struct {
	Result machine.Result `json:"result"`
	Error  *rpcError      `json:"error,omitempty"`
}

// peer is the client of another member's request interface.
type peer struct {
	member futago.MemberID
	client *http.Client
}

func (p *peer) propose(ctx context.Context, data []byte) (machine.Result, error) {
	var resp proposeResponse
	if err := p.call(ctx, http.MethodPost, proposePath, data, &resp); err != nil {
		return machine.Result{}, err
	}
	return resp.Result, resp.Error.err()
}

// call makes one request. An error is CodeUnavailable when the request was
// certainly not delivered, CodeUnknown otherwise.
func (p *peer) call(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://member"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	// The URL's scheme is nominal: the transport's dialler does mutual TLS.
	req.URL.Scheme = "https"
	res, err := p.client.Do(req)
	if err != nil {
		if notDelivered(err) {
			return futago.Errorf(futago.CodeUnavailable, "member %s is not reachable", p.member).Wrap(err)
		}
		return unknown(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err != nil {
		return unknown(err)
	}
	if res.StatusCode != http.StatusOK {
		return unknown(fmt.Errorf("member %s answered %s: %s", p.member, res.Status, bytes.TrimSpace(b)))
	}
	if err := json.Unmarshal(b, out); err != nil {
		return unknown(fmt.Errorf("answer of member %s: %w", p.member, err))
	}
	return nil
}

// notDelivered reports that not one byte of a request can have arrived: the
// connection was never made.
func notDelivered(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	code := futago.CodeOf(err)
	return errors.Is(err, syscall.ECONNREFUSED) || code == futago.CodeUnauthorized || code == futago.CodeUnavailable
}
