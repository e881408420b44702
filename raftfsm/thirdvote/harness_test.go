package thirdvote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

const (
	heartbeat = 120 * time.Millisecond
	patience  = 15 * time.Second // for what must come
)

// The library's hand-over of the leadership leaves two goroutines behind when it
// times out before the peer is up to date: leadershipTransfer sends its result
// to a channel of one, twice.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*Raft).leadershipTransfer"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*Raft).leaderLoop.func2"))
}

// cluster is two managers with the real library over TCP, and one register.
type cluster struct {
	t     testing.TB
	reg   *registertest.Register
	link  *link
	nodes map[futago.MemberID]*node
	acked map[string]bool
	n     int

	mu sync.Mutex
	// applied is what any node ever applied at an index, over all restarts.
	applied  map[uint64]string
	diverged string
}

// record checks that all nodes apply the same.
func (c *cluster) record(id futago.MemberID, index uint64, data string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, ok := c.applied[index]; ok && was != data && c.diverged == "" {
		c.diverged = fmt.Sprintf("%s applies %q at index %d, where %q was applied", id, data, index, was)
	}
	c.applied[index] = data
}

// node is one manager; its stores are its disk.
type node struct {
	c        *cluster
	id       futago.MemberID
	dir      string
	identity register.Identity
	client   *registertest.Client
	switches rules.Switches

	logs   *raft.InmemStore
	snaps  *raft.InmemSnapshotStore
	addr   string
	fsm    *fsm
	voter  *Voter
	trans  *Transport
	raft   *raft.Raft
	stop   func()
	up     bool
	mu     sync.Mutex
	events []Event
	// greet, if set, is called before a greeting of this node is answered by
	// the other one.
	greet atomic.Pointer[func()]
}

type option func(map[futago.MemberID]*node)

func sw(m futago.MemberID, s rules.Switches) option {
	return func(n map[futago.MemberID]*node) { n[m].switches = s }
}

// start makes a cluster in which a leads and both managers hold.
func start(t testing.TB, opts ...option) *cluster {
	t.Helper()
	c := &cluster{t: t, reg: registertest.New(), link: &link{}, nodes: map[futago.MemberID]*node{}, acked: map[string]bool{}, applied: map[uint64]string{}}
	for _, id := range []futago.MemberID{"a", "b"} {
		n := &node{c: c, id: id, dir: t.TempDir(), client: c.reg.Client()}
		n.wipe()
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(ownLoopback(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		n.addr = l.Addr().String()
		_ = l.Close()
		c.nodes[id] = n
	}
	for _, o := range opts {
		o(c.nodes)
	}
	t.Cleanup(c.close)
	a, b := c.nodes["a"], c.nodes["b"]
	if _, err := Create(t.Context(), a.client, "a", a.identity); err != nil {
		t.Fatal(err)
	}
	a.bootstrap()
	a.start()
	c.wait("a leads", func() bool { return c.leader() == a })
	b.start()
	c.settled()
	return c
}

// ownLoopback is a loopback address of this process alone: a node that restarts
// finds its port free, whatever connections other processes make.
func ownLoopback() string {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(64 + pid>>16&63), byte(pid >> 8), byte(pid)}).String()
}

func (c *cluster) close() {
	c.link.set(linkState{})
	for _, n := range c.nodes {
		n.crash()
	}
}

func (n *node) wipe() {
	n.logs, n.snaps = raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	n.identity = register.NewIdentity()
	_ = os.Remove(n.file())
}

func (n *node) file() string { return filepath.Join(n.dir, "thirdvote.json") }

func (n *node) peer() *node { return n.c.nodes[n.id.Peer()] }

func (n *node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.id)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = heartbeat, heartbeat, heartbeat
	c.CommitTimeout = 5 * time.Millisecond
	c.SnapshotThreshold = 1 << 40
	c.MaxAppendEntries = 8
	c.Logger = hclog.New(&hclog.LoggerOptions{Output: n.log(), Level: hclog.Debug, Name: string(n.id)})
	return c
}

func (n *node) log() io.Writer {
	if os.Getenv("THIRDVOTE_LOG") == "" {
		return io.Discard
	}
	return os.Stderr
}

func (n *node) bootstrap() {
	servers := []raft.Server{
		{ID: "a", Address: raft.ServerAddress(n.c.nodes["a"].addr)},
		{ID: "b", Address: raft.ServerAddress(n.c.nodes["b"].addr)},
		{ID: ServerID, Address: Address},
	}
	_, tr := raft.NewInmemTransport("")
	if err := raft.BootstrapCluster(n.raftConfig(), n.logs, n.logs, n.snaps, tr, raft.Configuration{Servers: servers}); err != nil {
		n.c.t.Fatal(err)
	}
}

// open makes the voter of the node's directory.
func (n *node) open(ctx context.Context) (*Voter, error) {
	return Open(ctx, Config{
		Self: n.id, Identity: n.identity, Register: n.client, Peer: peerOf{n}, File: n.file(),
		HeartbeatTimeout: heartbeat, switches: n.switches,
		OnEvent: func(e Event) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.events = append(n.events, e)
			if n.log() != io.Discard {
				fmt.Fprintf(os.Stderr, "%s EVENT %s %s: term %d, %v, %s %v\n", time.Now().Format("15:04:05.000"), n.id, e.Kind, e.Term, e.Record, e.Reason, e.Err)
			}
		},
	}, n.logs)
}

func (n *node) start() {
	t := n.c.t
	t.Helper()
	if err := n.tryStart(); err != nil {
		t.Fatalf("start of %s: %v", n.id, err)
	}
}

func (n *node) tryStart() error {
	ctx, cancel := context.WithCancel(context.Background())
	v, err := n.open(ctx)
	if err != nil {
		cancel()
		return err
	}
	cfg := n.raftConfig()
	tcp, err := raft.NewTCPTransportWithLogger(n.addr, nil, 3, 2*heartbeat, cfg.Logger)
	if err != nil {
		cancel()
		return errors.Join(err, v.Close())
	}
	tr, err := v.Transport(&cuttable{NetworkTransport: tcp, l: n.c.link, from: n.id})
	if err != nil {
		cancel()
		return err
	}
	f := &fsm{n: n, seen: map[string]bool{}}
	r, err := raft.NewRaft(cfg, f, n.logs, n.logs, n.snaps, tr)
	if err != nil {
		cancel()
		return err
	}
	v.Bind(r)
	done := make(chan struct{})
	go func() { defer close(done); _ = v.Run(ctx) }()
	n.mu.Lock()
	n.fsm, n.voter, n.trans, n.raft, n.up = f, v, tr, r, true
	n.mu.Unlock()
	n.stop = func() {
		cancel()
		<-done
		_ = r.Shutdown().Error()
		tcp.CloseStreams()
		_ = v.Close()
	}
	return nil
}

func (n *node) isUp() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.up }

func (n *node) crash() {
	if !n.isUp() {
		return
	}
	n.mu.Lock()
	n.up = false
	n.mu.Unlock()
	n.stop()
}

func (n *node) saw(k EventKind) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := 0
	for _, e := range n.events {
		if e.Kind == k {
			c++
		}
	}
	return c
}

// write proposes and reports whether it was acknowledged within d.
func (n *node) write(key string, d time.Duration) bool {
	if !n.isUp() {
		return false
	}
	f := n.raft.Apply([]byte(key), d)
	ch := make(chan error, 1)
	go func() { ch <- f.Error() }()
	select {
	case err := <-ch:
		if err == nil {
			n.c.acked[key] = true
		}
		return err == nil
	case <-time.After(d):
		// Unknown by now. The goroutine ends with the leadership or the node.
		return false
	}
}

// write proposes to whoever leads until it is acknowledged.
func (c *cluster) write() string {
	c.t.Helper()
	c.n++
	key := fmt.Sprintf("k%d", c.n)
	c.wait("write "+key, func() bool {
		l := c.leader()
		return l != nil && l.write(key, time.Second)
	})
	return key
}

func (c *cluster) leader() *node {
	var best *node
	for _, n := range c.nodes {
		if n.isUp() && n.raft.State() == raft.Leader && (best == nil || n.raft.CurrentTerm() > best.raft.CurrentTerm()) {
			best = n
		}
	}
	return best
}

func (c *cluster) wait(what string, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
	}
	for id, n := range c.nodes {
		if n.isUp() {
			c.t.Logf("%s: %v, %v, %+v", id, n.raft, n.raft.Stats(), n.voter.Status())
		}
	}
	c.t.Fatalf("%s: not within %v; register: %v", what, patience, c.reg.Current())
}

// settled waits until both managers run, hold and have applied the same.
func (c *cluster) settled() {
	c.t.Helper()
	c.wait("both hold", func() bool {
		r := c.reg.Current()
		l := c.leader()
		if l == nil || !r.Holds("a", c.nodes["a"].identity) || !r.Holds("b", c.nodes["b"].identity) {
			return false
		}
		a, b := c.nodes["a"], c.nodes["b"]
		return a.isUp() && b.isUp() && a.voter.Admitted() && b.voter.Admitted() &&
			a.raft.AppliedIndex() == b.raft.AppliedIndex() && l.raft.LastIndex() == a.raft.AppliedIndex()
	})
}

// never waits a while and fails if cond becomes true.
func (c *cluster) never(what string, d time.Duration, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if cond() {
			c.t.Fatalf("%s; register: %v", what, c.reg.Current())
		}
	}
}

// lost returns the acknowledged writes that n, a leader that has committed in
// its own term, does not have.
func (c *cluster) lost(n *node) (missing []string) {
	for k := range c.acked {
		if !n.fsm.has(k) {
			missing = append(missing, k)
		}
	}
	slices.Sort(missing)
	return missing
}

func (c *cluster) mustHaveAll() {
	c.t.Helper()
	c.settled()
	for id, n := range c.nodes {
		// The applied index is that of the entries handed to the state machine's
		// queue; after a restart it takes a while to work them off. What is lost
		// does not come back by waiting.
		m := c.lost(n)
		for end := time.Now().Add(patience); len(m) > 0 && time.Now().Before(end); m = c.lost(n) {
			time.Sleep(time.Millisecond)
		}
		if len(m) > 0 {
			c.t.Errorf("%s lacks %d acknowledged writes: %v", id, len(m), m[:min(len(m), 10)])
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.diverged != "" {
		c.t.Error(c.diverged)
	}
}

// leadsWithout reports whether n gets elected within d without a write that was
// acknowledged, which is what every rule is there to prevent.
func (c *cluster) leadsWithout(n *node, key string, d time.Duration) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n.isUp() && n.raft.State() == raft.Leader && n.raft.Barrier(time.Second).Error() == nil {
			return !n.fsm.has(key)
		}
	}
	return false
}

type fsm struct {
	n    *node
	mu   sync.Mutex
	seen map[string]bool
}

func (f *fsm) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[string(l.Data)] = true
	f.n.c.record(f.n.id, l.Index, string(l.Data))
	return nil
}

func (f *fsm) has(k string) bool { f.mu.Lock(); defer f.mu.Unlock(); return f.seen[k] }

func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b []byte
	for k := range f.seen {
		b = append(b, k...)
		b = append(b, '\n')
	}
	return snapshot(b), nil
}

func (f *fsm) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = map[string]bool{}
	for len(b) > 0 {
		i := slices.Index(b, '\n')
		f.seen[string(b[:i])] = true
		b = b[i+1:]
	}
	return nil
}

type snapshot []byte

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s snapshot) Release() {}

// link is what lies between the managers.
type link struct {
	mu sync.Mutex
	s  linkState
}

type linkState struct {
	cut      bool   // nothing passes, and there is no answer
	refuse   bool   // nothing passes, and there is an error at once
	noGreets bool   // greetings fail
	maxIndex uint64 // entries above do not pass, 0 for no limit
}

func (l *link) set(s linkState) { l.mu.Lock(); defer l.mu.Unlock(); l.s = s }
func (l *link) get() linkState  { l.mu.Lock(); defer l.mu.Unlock(); return l.s }

var errCut = errors.New("cut by the test")

// pass waits or fails as the state of the link says.
func (l *link) pass() error {
	s := l.get()
	if s.refuse {
		return errCut
	}
	if !s.cut {
		return nil
	}
	for end := time.Now().Add(2 * heartbeat); time.Now().Before(end) && l.get().cut; time.Sleep(time.Millisecond) {
		continue
	}
	return errCut
}

type cuttable struct {
	*raft.NetworkTransport
	l    *link
	from futago.MemberID
}

func (c *cuttable) AppendEntries(id raft.ServerID, a raft.ServerAddress, q *raft.AppendEntriesRequest, p *raft.AppendEntriesResponse) error {
	if err := c.l.pass(); err != nil {
		return err
	}
	if m := c.l.get().maxIndex; m > 0 && len(q.Entries) > 0 && q.Entries[len(q.Entries)-1].Index > m {
		return errCut
	}
	if err := c.NetworkTransport.AppendEntries(id, a, q, p); err != nil {
		return err
	}
	return c.l.pass()
}

func (c *cuttable) RequestVote(id raft.ServerID, a raft.ServerAddress, q *raft.RequestVoteRequest, p *raft.RequestVoteResponse) error {
	if err := c.l.pass(); err != nil {
		return err
	}
	return c.NetworkTransport.RequestVote(id, a, q, p)
}

func (c *cuttable) RequestPreVote(id raft.ServerID, a raft.ServerAddress, q *raft.RequestPreVoteRequest, p *raft.RequestPreVoteResponse) error {
	if err := c.l.pass(); err != nil {
		return err
	}
	return c.NetworkTransport.RequestPreVote(id, a, q, p)
}

func (c *cuttable) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, q *raft.InstallSnapshotRequest, p *raft.InstallSnapshotResponse, r io.Reader) error {
	if err := c.l.pass(); err != nil {
		return err
	}
	return c.NetworkTransport.InstallSnapshot(id, a, q, p, r)
}

// peerOf is the way of a node's greetings to the other one.
type peerOf struct{ n *node }

func (p peerOf) Exchange(ctx context.Context, q Greeting) (Greeting, error) {
	if f := p.n.greet.Load(); f != nil {
		(*f)()
	}
	s := p.n.c.link.get()
	if s.cut || s.refuse || s.noGreets {
		return Greeting{}, errCut
	}
	o := p.n.peer()
	o.mu.Lock()
	v, up := o.voter, o.up
	o.mu.Unlock()
	if !up {
		return Greeting{}, errCut
	}
	return v.Greet(q)
}
