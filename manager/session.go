package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/machine"
	"github.com/futago/futago/raftfsm/thirdvote"
	"github.com/futago/futago/raftfsm/thirdvote/httpregister"
	"github.com/futago/futago/raftfsm/thirdvote/witness"
	"github.com/futago/futago/store"
	"github.com/futago/futago/store/search"
	"github.com/futago/futago/version"
)

// session is this manager's membership from one start of Raft to the next. The
// receivers, the spool and the API outlive it: while there is none, traps are
// kept and the API says why.
type session struct {
	store   *store.Store
	search  *search.Index
	machine *machine.Machine
	raft    *raftfsm.Node
	release func() error // the register's connection
}

// openSession opens the database and starts Raft on it.
func (m *Manager) openSession(ctx context.Context) (_ *session, err error) {
	s := &session{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.store, err = store.Open(ctx, store.Options{
		Path: m.dir.Path("state.db"), ClusterID: m.node.ClusterID, Version: version.Number, Logger: m.log,
	})
	if err != nil {
		return nil, err
	}
	s.search, err = search.Open(ctx, search.Options{Path: m.dir.Path("search.db"), Store: s.store, Logger: m.log})
	if err != nil {
		return nil, err
	}
	s.machine, err = machine.Open(ctx, s.store, machine.Options{Logger: m.log})
	if err != nil {
		return nil, err
	}
	cfg := raftfsm.Config{
		Dir: m.dir, Link: m.link, Timing: m.cfg.Timing(), Store: s.store, Machine: s.machine, Logger: m.log,
		LocalStatus: func() any { return m.localStatus() }, Now: m.now, KeepLog: int64(m.cfg.Log.Keep),
	}
	if m.intake != nil {
		cfg.OnLeader = m.intake.forward.Kick
	}
	if m.node.ThirdVote == cluster.ThirdVoteRegister {
		reg, err := m.register()
		if err != nil {
			return nil, err
		}
		s.release = reg.Close
		cfg.Vote = &raftfsm.VoteConfig{Register: reg, OnEvent: m.voteEvent}
	}
	s.raft, err = raftfsm.Open(ctx, cfg)
	return s, err
}

// register opens the connection to the witness that the cluster was made with.
func (m *Manager) register() (*httpregister.Register, error) {
	inv, err := m.invitation()
	if err != nil {
		return nil, err
	}
	return httpregister.New(httpregister.Options{Invitation: inv, Timeout: m.cfg.Timing().RPCTimeout()})
}

func (m *Manager) invitation() (witness.Invitation, error) {
	text, err := m.dir.Keys().Open(m.node.Invitation)
	if err != nil {
		return witness.Invitation{}, err
	}
	return witness.ParseInvitation(text)
}

// voteEvent records as events what an operator must be able to look up later:
// who went on alone, and when both held everything again. The voter logs the rest.
func (m *Manager) voteEvent(e thirdvote.Event) {
	severity, what := futago.SeverityNotice, ""
	switch e.Kind {
	case thirdvote.EventSolo:
		severity, what = futago.SeverityWarning, "goes on alone: the other manager does not take entries"
	case thirdvote.EventReadmitted:
		what = "has taken the other manager back: both hold everything"
	case thirdvote.EventWentBack:
		severity, what = futago.SeverityCritical, "refuses the third vote's record, which went back: "+string(e.Reason)
	case thirdvote.EventReplaced:
		severity, what = futago.SeverityCritical, "was replaced: the third vote names another data directory for it"
	default:
		return
	}
	m.reports.report("third-vote-"+string(e.Kind), severity,
		fmt.Sprintf("manager %s %s (term %d, record %d, holders %s)", m.node.Member, what, e.Term, e.Record.Version, e.Record.Holders))
}

func (s *session) close() error {
	var errs []error
	if s.raft != nil {
		errs = append(errs, s.raft.Close())
	}
	if s.release != nil {
		errs = append(errs, s.release())
	}
	if s.search != nil {
		errs = append(errs, s.search.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// Pauses between sessions.
const (
	restartPause = time.Second
	restartMax   = time.Minute
)

// runSessions opens one session after another until ctx ends. A full disk is
// waited out; damage and newer data stop this member for good, while traps are
// still received into the spool.
func (m *Manager) runSessions(ctx context.Context) {
	pause := restartPause
	var last futago.Code
	for ctx.Err() == nil {
		started := m.now()
		err := m.runSession(ctx)
		if ctx.Err() != nil {
			if err != nil {
				m.log.Warn("the member ended with an error", "err", err)
			}
			return
		}
		if m.now().Sub(started) > restartMax {
			pause, last = restartPause, ""
		}
		code := stopCode(err)
		m.setStopped(code, err)
		if code != last {
			m.reports.report("member-stopped", futago.SeverityCritical, fmt.Sprintf("member %s stopped taking part: %v", m.node.Member, err))
		}
		last = code
		m.absent(ctx, func(ctx context.Context) {
			switch code {
			case futago.CodeStorageFull:
				m.log.Error("no room: this member has stepped down and waits for space", "err", err)
				m.awaitSpace(ctx)
			case futago.CodeCorrupt, futago.CodeIncompatible, futago.CodeInvalid, futago.CodeConflict:
				m.log.Error("this member has stopped and needs a person; traps are still received into the spool", "err", err)
				<-ctx.Done()
			default:
				m.log.Error("this member has stopped and tries again", "err", err, "in", pause)
				sleep(ctx, pause)
				pause = min(2*pause, restartMax)
			}
		})
	}
}

// stopCode classifies why a session ended. A full disk shows itself in many places.
func stopCode(err error) futago.Code {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return futago.CodeStorageFull
	}
	return futago.CodeOf(err)
}

// absent answers the other members for this one while wait runs.
func (m *Manager) absent(ctx context.Context, wait func(context.Context)) {
	serving, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.link.Absent(serving, m.hello); err != nil {
			m.log.Warn("answering on the member link", "err", err)
		}
	})
	wait(ctx)
	stop()
	wg.Wait()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// runSession returns why the session ended; nil only when ctx did.
func (m *Manager) runSession(ctx context.Context) error {
	if err := m.checkSpace(); err != nil {
		return err
	}
	var s *session
	var err error
	// Opening may take long: taking over a received database, for one.
	m.absent(ctx, func(ctx context.Context) {
		if err = m.checkOnly(ctx); err == nil {
			s, err = m.openSession(ctx)
		}
	})
	if err != nil {
		return err
	}
	m.setSession(s)
	defer func() {
		m.setSession(nil)
		if err := s.close(); err != nil {
			m.log.Warn("closing the session", "err", err)
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.raft.Wait(ctx) })
	g.Go(func() error { return s.search.Run(ctx) })
	g.Go(func() error { return m.watchSpace(ctx) })
	return g.Wait()
}
