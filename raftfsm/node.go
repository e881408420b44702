package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/intake/forward"
	"github.com/futago/futago/raftfsm/machine"
	"github.com/futago/futago/raftfsm/thirdvote"
	"github.com/futago/futago/store"
)

// Config is what a Node is made of. All fields are needed, but for Vote, KeepLog and OpenLog.
type Config struct {
	Dir     *cluster.Dir
	Link    *Link
	Timing  Timing
	Store   *store.Store
	Machine *machine.Machine
	Logger  *slog.Logger
	// Vote is the register kind of third vote; nil for the manager kind.
	Vote *VoteConfig
	// LocalStatus is what this member tells its peers beside its Raft state:
	// anything that encodes as JSON. May be nil.
	LocalStatus func() any
	// OnLeader is called when another member leads, or this one begins to
	// act: what waited for a leader may go on. It returns at once. May be nil.
	OnLeader func()
	Now      func() time.Time
	// KeepLog is how many bytes of log stay behind a snapshot; DefaultKeepLog when 0.
	KeepLog int64
	// OpenLog opens the log in the data directory; raft-boltdb when nil.
	OpenLog func(dir string) (LogStore, error)
}

// Node is one Raft member: log, state machine, transport, forwarding to the
// leader. It runs from Open until the first failure or Close.
type Node struct {
	member  futago.MemberID
	cfg     Config
	log     *slog.Logger
	timing  Timing
	link    *Link
	store   *store.Store
	machine *machine.Machine

	logs      *guardedLog
	snapshots *snapshotStore
	fsm       *fsm
	transport *raft.NetworkTransport
	raft      *raft.Raft
	voter     *thirdvote.Voter // nil for the manager kind
	peers     map[futago.MemberID]*peer

	trapClient *trapClient
	compactMu  sync.Mutex // guards compactor and the order of local batches
	compactor  *forward.Compactor
	pacer      pacer

	acting  atomic.Bool // leader, and its barrier is behind it
	since   atomic.Int64
	pending sync.WaitGroup // answers under way
	inRaft  atomic.Int64   // entries that the library has not answered
	gate    sync.RWMutex   // guards closing
	closing bool           // nothing more is handed to the library
	closed  chan struct{}
	failure chan error // the first one; capacity 1
	stop    context.CancelFunc
	tasks   sync.WaitGroup
}

// Open starts the member. Errors are [futago.Error]s where an operator can do
// something about them.
func Open(ctx context.Context, cfg Config) (_ *Node, err error) {
	if err := cfg.Timing.Validate(); err != nil {
		return nil, err
	}
	node := cfg.Dir.Node()
	n := &Node{
		member: node.Member, cfg: cfg, log: cfg.Logger.With("component", "raft"), timing: cfg.Timing,
		link: cfg.Link, store: cfg.Store, machine: cfg.Machine,
		peers: map[futago.MemberID]*peer{}, compactor: forward.NewCompactor(forward.DefaultCompactorBytes),
		closed: make(chan struct{}), failure: make(chan error, 1),
	}
	n.fsm = &fsm{n: n}
	for _, m := range []futago.MemberID{futago.MemberA, futago.MemberB, futago.MemberW} {
		if m != n.member {
			n.peers[m] = &peer{member: m, client: n.link.httpClient(m)}
		}
	}
	n.trapClient = &trapClient{link: n.link, timeout: n.timing.BatchTimeout()}

	if cfg.OpenLog == nil {
		cfg.OpenLog = openBolt
	}
	st, err := cfg.OpenLog(cfg.Dir.Path())
	if err != nil {
		return nil, err
	}
	n.logs = &guardedLog{
		LogStore: st, recent: newRecentLogs(recentBytes), path: cfg.Dir.Path("raft.db"), fail: n.fail,
		patience: n.timing.RPCTimeout() / 2, applied: func() uint64 { return n.machine.Applied().Index },
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.teardown())
		}
	}()
	n.snapshots, err = newSnapshotStore(cfg.Dir.Path("snapshots"), func(ctx context.Context, path string) ([32]byte, error) {
		c, err := n.store.Backup(ctx, path)
		return c.Sum, err
	})
	if err != nil {
		return nil, err
	}
	// A crash between receiving a snapshot and taking it over would leave the
	// database behind what Raft takes for applied.
	if err := n.finishInstall(ctx); err != nil {
		return nil, err
	}
	if err := n.checkLog(); err != nil {
		return nil, err
	}
	if err := n.start(ctx, node); err != nil {
		return nil, err
	}
	return n, nil
}

// start makes the Raft instance and this member's background tasks.
func (n *Node) start(ctx context.Context, node cluster.Node) (err error) {
	rl := newRaftLogger(n.log)
	n.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: n.link.newRaftLayer(), MaxPool: 4, Timeout: n.timing.RPCTimeout(), Logger: rl,
		// One: no pipelining. A pipeline to a stalled follower can wedge, and
		// large batches gain nothing from it.
		MaxRPCsInFlight: 1, MsgpackUseNewTimeFormat: true,
	})
	conf := n.timing.raftConfig(n.member)
	conf.Logger = rl
	var inner closableTransport = snapshotTransport{n.transport}
	if n.cfg.Vote != nil {
		if inner, err = n.newVoter(ctx); err != nil {
			return err
		}
	}
	trans := &boundedTransport{inner, appendBytes}
	if err := n.bootstrap(node, conf, trans); err != nil {
		return err
	}
	r, err := newRaft(conf, n.fsm, n.logs, n.snapshots, trans)
	if err != nil {
		return errors.Join(fmt.Errorf("start raft: %w", err), inner.Close()) // Raft would have closed it
	}
	n.raft = r
	// The member runs on after Open's context has ended, until Close.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	if n.voter != nil {
		n.voter.Bind(r)
		n.tasks.Go(func() { n.report(n.voter.Run(run)) })
	}
	n.tasks.Go(func() { n.leadership(run) })
	n.observeLeader(run)
	n.tasks.Go(func() { n.compactLog(run) })
	n.tasks.Go(func() { n.report(n.serveTraps(run)) })
	n.tasks.Go(func() { n.report(n.serveRPC(run)) })
	return nil
}

// bootstrap writes the fixed configuration of three voters into an empty log.
// Only the founder's first directory does; everybody else gets it from the log.
func (n *Node) bootstrap(node cluster.Node, conf *raft.Config, trans raft.Transport) error {
	if !node.Founder {
		return nil
	}
	has, err := raft.HasExistingState(n.logs, n.logs, n.snapshots)
	if err != nil || has {
		return err
	}
	var c raft.Configuration
	for _, m := range []futago.MemberID{futago.MemberA, futago.MemberB, futago.MemberW} {
		// A member's address is its name; the link knows where it is.
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(m), Address: raft.ServerAddress(m)})
	}
	return raft.BootstrapCluster(conf, n.logs, n.logs, n.snapshots, trans, c)
}

// finishInstall takes over a received snapshot, if one waits.
func (n *Node) finishInstall(ctx context.Context) error {
	f, ok, err := n.snapshots.pending()
	if err != nil || !ok {
		return err
	}
	path := n.snapshots.installedPath(f)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// Taken over before the crash; only the reference is left to be written.
		return n.snapshots.settle(f, n.machine.Applied().Index)
	}
	n.log.Info("taking over the received snapshot", "index", f.Meta.Index)
	if err := n.machine.Restore(ctx, path, [32]byte(f.Sum)); err != nil {
		return fmt.Errorf("take over snapshot %s: %w", f.Meta.ID, err)
	}
	return n.snapshots.settle(f, n.machine.Applied().Index)
}

// termKey is where the library keeps its term in the stable store.
var termKey = []byte("CurrentTerm")

// checkLog refuses a log that does not reach the database's applied index with
// no snapshot in between: raft.db and state.db are then of two histories, or
// one of them was put back from a copy.
func (n *Node) checkLog() error {
	applied := n.machine.Applied().Index
	first, err := n.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.logs.LastIndex()
	if err != nil {
		return err
	}
	refs, err := n.snapshots.all()
	if err != nil {
		return err
	}
	var snap, snapped uint64
	if len(refs) > 0 {
		snap, snapped = refs[0].Meta.Index, refs[0].Applied
	}
	// A snapshot that was received leaves no entries behind, but never a member
	// that has been in no term.
	term, err := n.logs.GetUint64(termKey)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	switch {
	case applied > 0 && term == 0:
		return futago.Errorf(futago.CodeCorrupt, "raft.db is empty, and state.db has applied %d entries", applied).
			WithAction("put raft.db back if it was moved; else move the data directory away and join anew")
	case applied < snapped:
		return futago.Errorf(futago.CodeCorrupt, "state.db has applied %d entries, the snapshot in snapshots/ was taken at %d", applied, snapped).
			WithAction("put state.db back if it was moved; else move the data directory away and join anew")
	case applied > max(last, snap) && snap == 0:
		return futago.Errorf(futago.CodeCorrupt, "state.db has applied entry %d, raft.db ends at %d", applied, last).
			WithAction("one of the two files is a copy from another time: move the data directory away and join anew")
	case first > 0 && first > max(applied, snap)+1:
		return futago.Errorf(futago.CodeCorrupt, "raft.db begins at entry %d, state.db has applied %d: entries between are missing", first, applied).
			WithAction("one of the two files is a copy from another time: move the data directory away and join anew")
	}
	return nil
}

// fail reports the first failure, on which this member stops.
func (n *Node) fail(err error) {
	select {
	case n.failure <- err:
		n.log.Error("this member stops", "err", err)
	default:
	}
}

// report passes a background task's error on, unless the node is closing.
func (n *Node) report(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	select {
	case <-n.closed:
	default:
		n.fail(err)
	}
}

// Wait returns the failure that made this member stop, or nil once ctx ends.
// The caller closes the node in both cases.
func (n *Node) Wait(ctx context.Context) error {
	select {
	case err := <-n.failure:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Close stops the member: a leader hands over first, within a bound.
func (n *Node) Close() error {
	n.acting.Store(false)
	if n.raft != nil && n.raft.State() == raft.Leader && len(n.failure) == 0 {
		if err := n.transfer(); err != nil {
			n.log.Info("could not hand leadership over before stopping", "err", err)
		}
	}
	return n.teardown()
}

// teardown releases whatever Open has made so far.
func (n *Node) teardown() error {
	if n.raft != nil {
		n.quiesce()
	}
	close(n.closed)
	if n.stop != nil {
		n.stop()
	}
	var errs []error
	n.trapClient.close()
	if n.raft != nil {
		errs = append(errs, n.raft.Shutdown().Error())
	}
	if n.transport != nil {
		errs = append(errs, n.transport.Close())
	}
	n.tasks.Wait()
	n.pending.Wait()
	if n.voter != nil {
		errs = append(errs, n.voter.Close())
	}
	for _, p := range n.peers {
		p.client.CloseIdleConnections()
	}
	return errors.Join(append(errs, n.logs.Close())...)
}

// ErrNoHandover says that leadership could not be given to the other manager.
var ErrNoHandover = errors.New("leadership could not be handed over")

// transfer hands leadership to the other manager. The library's own call may
// hang and may choose the third vote, so the target is named and the wait
// bounded.
func (n *Node) transfer() error {
	to := n.member.Peer()
	if to == "" {
		return n.transferToAny()
	}
	return n.transferTo(to)
}

func (n *Node) transferToAny() error {
	for _, m := range []futago.MemberID{futago.MemberA, futago.MemberB} {
		if err := n.transferTo(m); err == nil {
			return nil
		}
	}
	return ErrNoHandover
}

func (n *Node) transferTo(m futago.MemberID) error {
	f := n.raft.LeadershipTransferToServer(raft.ServerID(m), raft.ServerAddress(m))
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // ends at the latest with Raft's shutdown
	select {
	case err := <-done:
		return err
	case <-time.After(3 * n.timing.Heartbeat):
		return fmt.Errorf("%w to %s: no answer in time", ErrNoHandover, m)
	}
}

// leadership follows Raft's leader channel. A new leader acts after a barrier:
// everything of earlier terms is applied then.
func (n *Node) leadership(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-n.raft.LeaderCh():
			n.acting.Store(false)
			if leads {
				n.establish(ctx)
			}
		}
	}
}

// observeLeader tells cfg.OnLeader of leaders that this member hears of.
func (n *Node) observeLeader(ctx context.Context) {
	if n.cfg.OnLeader == nil {
		return
	}
	// Full when several come at once: one call serves them all.
	ch := make(chan raft.Observation, 1)
	o := raft.NewObserver(ch, false, func(o *raft.Observation) bool {
		l, ok := o.Data.(raft.LeaderObservation)
		return ok && l.LeaderID != "" && l.LeaderID != raft.ServerID(n.member)
	})
	n.raft.RegisterObserver(o)
	n.tasks.Go(func() {
		defer n.raft.DeregisterObserver(o)
		for {
			select {
			case <-ctx.Done():
				return
			case <-ch:
				n.cfg.OnLeader()
			}
		}
	})
}

func (n *Node) establish(ctx context.Context) {
	term := n.raft.CurrentTerm()
	start := n.cfg.Now()
	for ctx.Err() == nil && n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term {
		err := n.raft.Barrier(n.timing.EnqueueTimeout()).Error()
		if err == nil {
			if n.member == futago.MemberW {
				// The third member has no listeners and serves nobody.
				if err := n.transferToAny(); err != nil {
					n.log.Warn("the third member leads and found no manager to hand over to", "err", err)
				}
			}
			n.since.Store(n.cfg.Now().UnixNano())
			n.acting.Store(n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term)
			n.log.Info("acting as leader", "term", term, "after", n.cfg.Now().Sub(start))
			if n.cfg.OnLeader != nil {
				n.cfg.OnLeader()
			}
			return
		}
		n.log.Info("barrier of the new leader", "term", term, "err", err)
	}
}

// Leader tells which member leads, as far as this one knows.
func (n *Node) Leader() (futago.MemberID, bool) {
	_, id := n.raft.LeaderWithID()
	return futago.MemberID(id), id != ""
}

// Acting reports whether this member leads and is past its barrier.
func (n *Node) Acting() bool { return n.acting.Load() }

// Member returns this member's name.
func (n *Node) Member() futago.MemberID { return n.member }

// LogBytes is the size of the log file in bytes.
func (n *Node) LogBytes() int64 { return fileSize(filepath.Clean(n.logs.path)) }
