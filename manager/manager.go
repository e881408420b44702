// Package manager builds and supervises one member of a cluster: the member
// link, the spool and its receivers, the API, and the membership in Raft. It is
// the only package that knows them all.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
)

// Options are what New needs beside the configuration.
type Options struct {
	Config Config
	Logger *slog.Logger
	// Registry takes the member's metrics; a new one is made when nil.
	Registry *prometheus.Registry
	Now      func() time.Time
}

// Manager is one member. Run is called once.
type Manager struct {
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	registry  *prometheus.Registry
	startedAt time.Time

	dir       *cluster.Dir
	node      cluster.Node
	link      *raftfsm.Link
	admission *cluster.Admission
	reports   *reporter
	intake    *intake // nil on the third vote
	api       *apiServer

	settings atomic.Pointer[futago.IntakeSettings] // the last ones seen
	mu       sync.Mutex                            // guards what follows
	current  *session
	state    string
	reason   error // why there is no session
	cleanups []cleanup

	tasks   sync.WaitGroup
	closing chan struct{}
}

// cleanup undoes one step of start.
type cleanup struct {
	name string
	undo func() error
}

// New opens the data directory and every port, in an order that makes a slow or
// failing start visible: the API answers before the database is open. What was
// opened is closed again when a later step fails.
func New(ctx context.Context, o Options) (_ *Manager, err error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	m := &Manager{
		cfg: o.Config, log: o.Logger, now: o.Now, registry: o.Registry, startedAt: o.Now(),
		state: stateStarting, closing: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.dir, err = cluster.Open(o.Config.DataDir); err != nil {
		return nil, err
	}
	m.onClose("data directory", m.dir.Close)
	m.node = m.dir.Node()
	m.log = m.log.With("member", string(m.node.Member))
	m.settings.Store(&futago.IntakeSettings{})
	if m.link, err = raftfsm.Listen(ctx, o.Config.ClusterListen, m.node, m.dir.Keys(), m.log); err != nil {
		return nil, err
	}
	m.onClose("member link", m.link.Close)
	m.admission = cluster.NewAdmission(m.dir, m.now, func(id futago.MemberID, a cluster.Addresses) {
		m.link.SetAddress(id, a.Cluster)
		m.log.Info("member joined", "joined", string(id), "cluster_address", a.Cluster)
	})
	m.reports = newReporter(m)
	m.checkLimits()
	if m.node.Member == futago.MemberW {
		// The third member has no listeners: it keeps the log and the state.
		return m, nil
	}
	if m.api, err = m.listenAPI(ctx); err != nil {
		return nil, err
	}
	m.onClose("API", m.api.close)
	if m.intake, err = m.openIntake(ctx); err != nil {
		return nil, err
	}
	m.onClose("spool", m.intake.close)
	return m, m.registerMetrics()
}

func (m *Manager) onClose(name string, undo func() error) {
	m.cleanups = append(m.cleanups, cleanup{name, undo})
}

// Close undoes New, the last step first. Run must have returned.
func (m *Manager) Close() error {
	select {
	case <-m.closing:
		return nil
	default:
		close(m.closing)
	}
	m.tasks.Wait()
	var errs []error
	for _, c := range slices.Backward(m.cleanups) {
		if err := c.undo(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends or something fails that a restart of the process
// must mend. The ways in close first; what they took is forwarded meanwhile or
// stays in the spool. Raft stops last, and hands leadership over.
func (m *Manager) Run(ctx context.Context) error {
	membership, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	var inner sync.WaitGroup
	inner.Go(func() { m.runSessions(membership) })
	inner.Go(func() { m.reports.run(membership) })
	inner.Go(func() { m.followMembers(membership) })

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { <-ctx.Done(); return nil }) // the third member has no ways in
	if m.api != nil {
		g.Go(func() error { return m.api.run(ctx) })
	}
	if m.intake != nil {
		g.Go(func() error { return m.intake.run(ctx) })
	}
	err := g.Wait()
	leave()
	inner.Wait()
	return err
}

// Addresses tells where the member's ports are, by name.
func (m *Manager) Addresses() map[string]string {
	out := map[string]string{"cluster": m.link.Addr().String()}
	if m.api != nil {
		out["api"] = m.api.addr()
	}
	if m.intake != nil {
		for _, r := range m.intake.receivers {
			out[r.status().Name] = r.status().Address
		}
	}
	return out
}

// setSession makes s the present session, in state "running"; nil ends it.
func (m *Manager) setSession(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = s
	if s != nil {
		m.state, m.reason = stateRunning, nil
	}
}

// setStopped says why there is no session.
func (m *Manager) setStopped(code futago.Code, reason error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.reason = string(code), reason
}

// States of a member beside the codes of why it stopped.
const (
	stateStarting = "starting"
	stateRunning  = "running"
)

// session returns the present session, or why there is none.
func (m *Manager) session() (*session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current != nil {
		return m.current, nil
	}
	if m.reason != nil {
		return nil, futago.Errorf(futago.CodeUnavailable, "this member does not take part now").
			WithAction("see futago status").Wrap(m.reason)
	}
	return nil, futago.Errorf(futago.CodeUnavailable, "this member is starting").WithAction("try again in a moment")
}

// changed returns a channel that is closed when the database has changed.
func (m *Manager) changed() <-chan struct{} {
	s, err := m.session()
	if err != nil {
		// No database now: let followers look again soon.
		c := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(c) })
		return c
	}
	return s.store.Changed()
}

// intakeSettings returns the settings in force, or the last ones seen while
// there is no database. The result is not changed afterwards.
func (m *Manager) intakeSettings() *futago.IntakeSettings {
	if s, err := m.session(); err == nil {
		m.settings.Store(s.machine.Settings())
	}
	return m.settings.Load()
}

// databaseBytes is the size of the database files in bytes.
func (m *Manager) databaseBytes() (n int64) {
	for _, f := range []string{"state.db", "state.db-wal", "search.db"} {
		if fi, err := os.Stat(filepath.Join(m.cfg.DataDir, f)); err == nil {
			n += fi.Size()
		}
	}
	return n
}
