package raftfsm

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// The trap stream carries batches from a manager to the leader over one
// connection, in order, several under way at once. Each frame is a length
// (4 bytes, little-endian) and an encoded entry; each answer is a length and a
// JSON trapAnswer, in the order of the frames. Order matters: the state machine
// refuses a batch whose predecessor is missing.

// maxTrapFrame is the largest frame in bytes: a batch with one trap of the
// greatest length fits.
const maxTrapFrame = command.MaxTrapEncoded + 1<<20

type trapAnswer struct {
	Result command.BatchResult `json:"result"`
	Error  *rpcError           `json:"error,omitempty"`
}

// BatchFuture is a batch under way. Wait may be called once.
type BatchFuture struct {
	done chan struct{}
	res  command.BatchResult
	err  error
}

// Wait returns the outcome. When ctx ends first it is CodeUnknown.
func (f *BatchFuture) Wait(ctx context.Context) (command.BatchResult, error) {
	select {
	case <-f.done:
		return f.res, f.err
	case <-ctx.Done():
		return command.BatchResult{}, unknown(ctx.Err())
	}
}

func (f *BatchFuture) complete(res command.BatchResult, err error) {
	f.res, f.err = res, err
	close(f.done)
}

func newBatchFuture() *BatchFuture { return &BatchFuture{done: make(chan struct{})} }

// FailedBatch is a batch that was not sent.
func FailedBatch(err error) *BatchFuture {
	f := newBatchFuture()
	f.complete(command.BatchResult{}, err)
	return f
}

// SubmitBatch sends a batch to the leader. Batches submitted by one goroutine
// are proposed in that order. Unlike Propose it does not repeat: the caller
// resumes from the high-water mark that the next answer names.
func (n *Node) SubmitBatch(ctx context.Context, b *command.TrapBatch) *BatchFuture {
	leader, ok := n.Leader()
	if !ok {
		return FailedBatch(errNoLeader())
	}
	if leader != n.member {
		data, err := command.Encode(b)
		if err != nil {
			return FailedBatch(err)
		}
		return n.trapClient.submit(ctx, leader, data)
	}
	return n.submitBatchLocal(b)
}

// submitBatchLocal compacts a batch and gives it to this member's Raft. The
// mutex keeps the order in which the compactor sees batches the same as their
// order in the log, on which its choice of bodies to leave out rests.
func (n *Node) submitBatchLocal(b *command.TrapBatch) *BatchFuture {
	n.pace(b)
	f := newBatchFuture()
	n.compactMu.Lock()
	n.compactor.Compact(n.raft.CurrentTerm(), b)
	data, err := command.Encode(b)
	if err != nil {
		n.compactMu.Unlock()
		f.complete(command.BatchResult{}, err)
		return f
	}
	n.submitLocal(data, func(lf *localFuture) {
		if lf.err != nil {
			f.complete(command.BatchResult{}, lf.err)
			return
		}
		f.complete(lf.res.Batch, lf.res.Err())
	})
	n.compactMu.Unlock()
	return f
}

// serveTraps answers the trap streams of the other manager until the link closes.
func (n *Node) serveTraps(ctx context.Context) error {
	ln := sublistener{n.link, n.link.traps}
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case c := <-ln.ch:
			wg.Go(func() { n.serveTrapConn(ctx, c) })
		case <-n.link.done:
			return net.ErrClosed
		case <-ctx.Done():
			return nil
		}
	}
}

// answersInFlight bounds the batches of one stream that wait for their commit.
const answersInFlight = 32

func (n *Node) serveTrapConn(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer c.Close()
	answers := make(chan *BatchFuture, answersInFlight)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			_ = c.Close() // a failed writer ends the reader
			for range answers {
				continue // which may be about to hand one on
			}
		}()
		w := bufio.NewWriter(c)
		for f := range answers {
			res, err := f.Wait(ctx)
			b, jerr := json.Marshal(trapAnswer{Result: res, Error: toRPCError(err)})
			if jerr != nil || writeFrame(w, b) != nil {
				return
			}
			if len(answers) == 0 && w.Flush() != nil {
				return
			}
		}
	})
	r := bufio.NewReaderSize(c, 256<<10)
	for {
		b, err := readFrame(r)
		if err != nil {
			break
		}
		f := n.acceptBatch(b)
		select {
		case answers <- f:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(answers)
	wg.Wait()
}

func (n *Node) acceptBatch(data []byte) *BatchFuture {
	if !n.acting.Load() {
		e := futago.Errorf(futago.CodeNotLeader, "member %s is not the leader", n.member)
		e.Leader, _ = n.Leader()
		return FailedBatch(e)
	}
	e, err := command.Decode(data)
	if err != nil {
		return FailedBatch(err)
	}
	b, ok := e.(*command.TrapBatch)
	if !ok {
		return FailedBatch(futago.Errorf(futago.CodeInvalid, "the trap stream takes trap batches, not %s", e.EntryType()))
	}
	return n.submitBatchLocal(b)
}

func writeFrame(w io.Writer, b []byte) error {
	var h [4]byte
	binary.LittleEndian.PutUint32(h[:], uint32(len(b)))
	if _, err := w.Write(h[:]); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(h[:])
	if size > maxTrapFrame {
		return nil, fmt.Errorf("trap frame of %d bytes is longer than %d", size, maxTrapFrame)
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

// trapClient is the sending end of the trap stream.
type trapClient struct {
	link    *Link
	timeout time.Duration // for a frame to be written, and for an answer

	mu   sync.Mutex
	conn *trapConn
}

// trapConn is one connection and the batches under way on it.
type trapConn struct {
	leader  futago.MemberID
	conn    net.Conn
	timeout time.Duration
	done    chan struct{} // closed when reading ended and owed is settled

	mu     sync.Mutex // guards owed, broken and the read deadline
	owed   []*BatchFuture
	broken error
}

// submit writes a frame. A failed connection completes everything under way on
// it as unknown; the next submit dials again.
func (t *trapClient) submit(ctx context.Context, leader futago.MemberID, data []byte) *BatchFuture {
	f := newBatchFuture()
	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := t.connect(ctx, leader)
	if err != nil {
		f.complete(command.BatchResult{}, futago.Errorf(futago.CodeUnavailable, "leader %s is not reachable", leader).Wrap(err))
		return f
	}
	if err := c.owe(f); err != nil {
		f.complete(command.BatchResult{}, err)
		return f
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(t.timeout))
	if err := writeFrame(c.conn, data); err != nil {
		_ = c.conn.Close() // the reader completes f
	}
	return f
}

// connect returns the connection to the leader, dialling where there is none.
// The caller holds mu.
func (t *trapClient) connect(ctx context.Context, leader futago.MemberID) (*trapConn, error) {
	if t.conn != nil {
		select {
		case <-t.conn.done:
		default:
			if t.conn.leader == leader {
				return t.conn, nil
			}
		}
		t.drop()
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := t.link.dial(ctx, leader, protoTraps)
	if err != nil {
		return nil, err
	}
	c := &trapConn{leader: leader, conn: conn, timeout: t.timeout, done: make(chan struct{})}
	t.conn = c
	go c.read() // ends with the connection; drop waits for it
	return c, nil
}

// drop closes the connection and waits for its reader. The caller holds mu.
func (t *trapClient) drop() {
	_ = t.conn.conn.Close()
	<-t.conn.done
	t.conn = nil
}

// close ends the stream; everything under way is completed as unknown.
func (t *trapClient) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		t.drop()
	}
}

// owe notes that the other end owes an answer for f, within the time-out.
func (c *trapConn) owe(f *BatchFuture) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.broken != nil:
		return futago.Errorf(futago.CodeUnavailable, "the trap stream broke").Wrap(c.broken)
	case len(c.owed) >= answersInFlight:
		return futago.Errorf(futago.CodeUnavailable, "%d batches are under way already", len(c.owed))
	case len(c.owed) == 0:
		_ = c.conn.SetReadDeadline(time.Now().Add(c.timeout))
	}
	c.owed = append(c.owed, f)
	return nil
}

// settle takes the oldest owed future; an idle connection has no deadline.
func (c *trapConn) settle() (*BatchFuture, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.owed) == 0 {
		return nil, errors.New("an answer came that nobody waits for")
	}
	f := c.owed[0]
	c.owed = c.owed[1:]
	deadline := time.Time{}
	if len(c.owed) > 0 {
		deadline = time.Now().Add(c.timeout)
	}
	return f, c.conn.SetReadDeadline(deadline)
}

func (c *trapConn) read() {
	err := c.readAnswers(bufio.NewReader(c.conn))
	_ = c.conn.Close()
	c.mu.Lock()
	c.broken = err
	owed := c.owed
	c.owed = nil
	c.mu.Unlock()
	for _, f := range owed {
		f.complete(command.BatchResult{}, unknown(err))
	}
	close(c.done)
}

func (c *trapConn) readAnswers(r io.Reader) error {
	for {
		b, err := readFrame(r)
		if err != nil {
			return err
		}
		var a trapAnswer
		if err := json.Unmarshal(b, &a); err != nil {
			return err
		}
		f, err := c.settle()
		if f != nil {
			f.complete(a.Result, a.Error.err())
		}
		if err != nil {
			return err
		}
	}
}
