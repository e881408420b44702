package manager

import (
	"context"
	"errors"
	"fmt"
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
		LocalStatus: func() any { return m.localStatus() }, Now: m.now,
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
	m.reports.report(context.Background(), "third-vote-"+string(e.Kind), severity,
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
	spaceCheck   = time.Second
)

// runSessions opens one session after another until ctx ends. A full disk is
// waited out; damage and newer data stop this member for good, while traps are
// still received into the spool.
func (m *Manager) runSessions(ctx context.Context) error {
	pause := restartPause
	for ctx.Err() == nil {
		started := m.now()
		err := m.runSession(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if m.now().Sub(started) > restartMax {
			pause = restartPause
		}
		code := futago.CodeOf(err)
		m.setState(string(code), err)
		switch code {
		case futago.CodeStorageFull:
			m.log.Error("no room: this member has stepped down and waits for space", "err", err)
			if !m.awaitSpace(ctx) {
				return nil
			}
		case futago.CodeCorrupt, futago.CodeIncompatible, futago.CodeInvalid, futago.CodeConflict:
			m.log.Error("this member has stopped and needs a person; traps are still received into the spool", "err", err)
			<-ctx.Done()
			return nil
		default:
			m.log.Error("this member has stopped and tries again", "err", err, "in", pause)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, restartMax)
		}
	}
	return nil
}

// runSession returns why the session ended; nil only when ctx did.
func (m *Manager) runSession(ctx context.Context) error {
	if err := m.checkSpace(1); err != nil {
		return err
	}
	s, err := m.openSession(ctx)
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
	m.setState("running", nil)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.raft.Wait(ctx) })
	g.Go(func() error { return s.search.Run(ctx) })
	g.Go(func() error { return m.watchSpace(ctx) })
	return g.Wait()
}

// watchSpace ends the session before the file system is full: a leader can
// still hand over then, and SQLite and the log never meet a failed write.
func (m *Manager) watchSpace(ctx context.Context) error {
	t := time.NewTicker(spaceCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := m.checkSpace(1); err != nil {
				return err
			}
		}
	}
}

// checkSpace wants factor times the least room.
func (m *Manager) checkSpace(factor float64) error {
	free, err := freeBytes(m.dir.Path())
	if err != nil {
		return fmt.Errorf("look for free space: %w", err)
	}
	if want := uint64(float64(m.cfg.MinFree) * factor); free < want {
		return futago.Errorf(futago.CodeStorageFull, "%s has %d MiB free, %d are needed", m.dir.Path(), free>>20, want>>20).
			WithAction("free space on that file system; this member goes on by itself")
	}
	return nil
}

// awaitSpace waits for somewhat more room than the least, so that a member at
// the edge does not come and go. It returns false when ctx ended.
func (m *Manager) awaitSpace(ctx context.Context) bool {
	t := time.NewTicker(spaceCheck)
	defer t.Stop()
	for m.checkSpace(1.25) != nil {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
	return true
}
