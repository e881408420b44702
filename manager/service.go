package manager

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/httpapi"
	"github.com/futago/futago/raftfsm/command"
)

// service is the manager as the API sees it: it validates, stamps and proposes
// changes, and reads from this manager's own database. A standby takes no
// changes: it names the leader, so that clients learn where to go.
type service struct{ m *Manager }

var _ httpapi.Backend = service{}

func (s service) Member() futago.MemberID { return s.m.node.Member }

func (s service) Leader() (futago.MemberID, string) {
	ses, err := s.m.session()
	if err != nil {
		return "", ""
	}
	id, ok := ses.raft.Leader()
	if !ok {
		return "", ""
	}
	return id, s.m.dir.Node().Members[id].API
}

func (s service) Ready(context.Context) error {
	ses, err := s.m.session()
	if err != nil {
		return err
	}
	leader, ok := ses.raft.Leader()
	switch {
	case !ok:
		return futago.Errorf(futago.CodeUnavailable, "there is no leader").WithAction("see futago status for what is missing")
	case leader == s.m.node.Member && !ses.raft.Acting():
		return futago.Errorf(futago.CodeUnavailable, "elected, and not past the barrier yet")
	}
	return nil
}

func (s service) VerifyRead(ctx context.Context) error {
	ses, err := s.m.session()
	if err != nil {
		return err
	}
	return ses.raft.VerifyRead(ctx)
}

func (s service) Events(ctx context.Context, q futago.EventQuery) (futago.EventPage, error) {
	ses, err := s.m.session()
	if err != nil {
		return futago.EventPage{}, err
	}
	return ses.search.Events(ctx, q)
}

func (s service) Event(ctx context.Context, id uint64) (futago.Event, error) {
	ses, err := s.m.session()
	if err != nil {
		return futago.Event{}, err
	}
	return ses.store.Event(ctx, id)
}

func (s service) Subscribe(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	s.m.tasks.Go(func() {
		defer close(out)
		for {
			changed := s.m.changed()
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-s.m.closing:
				return
			}
			select {
			case out <- struct{}{}:
			default: // a value waits already: the receiver will look
			}
		}
	})
	return out
}

// propose sends a change through the log. A standby refuses and names the leader.
func (s service) propose(ctx context.Context, p command.Proposal, a httpapi.Actor) error {
	ses, err := s.m.session()
	if err != nil {
		return err
	}
	if leader, ok := ses.raft.Leader(); ok && leader != s.m.node.Member && !a.Local {
		e := futago.Errorf(futago.CodeNotLeader, "manager %s is the standby", s.m.node.Member).
			WithAction("send changes to manager %s at %s", leader, s.m.dir.Node().Members[leader].API)
		e.Leader = leader
		return e
	}
	h := p.Header()
	h.ID, h.At, h.By = a.Proposal, s.m.now().UTC(), a.Name
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	_, err = ses.raft.Propose(ctx, p)
	return err
}

// proposeTimeout bounds a change asked for by a client: longer than a failover.
const proposeTimeout = 10 * time.Second

func (s service) IntakeSettings(ctx context.Context) (futago.IntakeSettings, error) {
	ses, err := s.m.session()
	if err != nil {
		return futago.IntakeSettings{}, err
	}
	set, err := ses.store.Settings(ctx)
	if err != nil {
		return futago.IntakeSettings{}, err
	}
	// Every rule is shown, so that what is shown can be changed and sent back.
	rules := map[futago.Kind]futago.DedupRule{}
	for k := futago.KindSyslog; k <= futago.KindCustomTrap; k++ {
		rules[k] = futago.DefaultDedupRule()
	}
	maps.Copy(rules, set.Dedup)
	set.Dedup = rules
	return set, nil
}

func (s service) PutIntakeSettings(ctx context.Context, a httpapi.Actor, want futago.IntakeSettings) (futago.IntakeSettings, error) {
	present, err := s.IntakeSettings(ctx)
	if err != nil {
		return futago.IntakeSettings{}, err
	}
	if err := want.Validate(); err != nil {
		return futago.IntakeSettings{}, err
	}
	if err := s.seal(&want, present); err != nil {
		return futago.IntakeSettings{}, err
	}
	want.Revision++
	if err := s.propose(ctx, &command.PutIntakeSettings{Settings: want}, a); err != nil {
		return futago.IntakeSettings{}, err
	}
	return want, nil
}

// seal encrypts new secrets and keeps those that come back masked.
func (s service) seal(want *futago.IntakeSettings, present futago.IntakeSettings) error {
	old := map[string]futago.SNMPUser{}
	for _, u := range present.SNMPUsers {
		old[u.Name] = u
	}
	one := func(v *futago.Secret, kept futago.Secret) (err error) {
		switch {
		case v.Reveal() == futago.Masked && kept == "":
			return futago.Errorf(futago.CodeInvalid, "a masked passphrase stands where there was none before").
				WithAction("send the passphrase itself; it does not move with a new user name")
		case v.Reveal() == futago.Masked:
			*v = kept
		case *v != "" && !v.Sealed():
			*v, err = s.m.dir.Keys().Seal(v.Reveal())
		}
		return err
	}
	users := make([]futago.SNMPUser, len(want.SNMPUsers))
	copy(users, want.SNMPUsers)
	for i := range users {
		u := &users[i]
		if err := one(&u.AuthPass, old[u.Name].AuthPass); err != nil {
			return err
		}
		if err := one(&u.PrivPass, old[u.Name].PrivPass); err != nil {
			return err
		}
	}
	want.SNMPUsers = users
	return nil
}

func (s service) Users(ctx context.Context) ([]futago.User, error) {
	ses, err := s.m.session()
	if err != nil {
		return nil, err
	}
	return ses.store.Users(ctx)
}

func (s service) User(ctx context.Context, name string) (futago.User, error) {
	ses, err := s.m.session()
	if err != nil {
		return futago.User{}, err
	}
	return ses.store.User(ctx, name)
}

func (s service) PutUser(ctx context.Context, a httpapi.Actor, u futago.User, create bool) error {
	u.CreatedAt = s.m.now().UTC()
	return s.propose(ctx, &command.PutUser{User: u, Create: create}, a)
}

func (s service) DeleteUser(ctx context.Context, a httpapi.Actor, name string) error {
	return s.propose(ctx, &command.DeleteUser{Name: name}, a)
}

func (s service) Tokens(ctx context.Context) ([]futago.Token, error) {
	ses, err := s.m.session()
	if err != nil {
		return nil, err
	}
	return ses.store.Tokens(ctx)
}

func (s service) Token(ctx context.Context, id string) (futago.Token, error) {
	ses, err := s.m.session()
	if err != nil {
		return futago.Token{}, err
	}
	return ses.store.Token(ctx, id)
}

func (s service) PutToken(ctx context.Context, a httpapi.Actor, t futago.Token) error {
	t.CreatedAt, t.CreatedBy = s.m.now().UTC(), a.Name
	return s.propose(ctx, &command.PutToken{Token: t}, a)
}

func (s service) DeleteToken(ctx context.Context, a httpapi.Actor, id string) error {
	return s.propose(ctx, &command.DeleteToken{TokenID: id}, a)
}

func (s service) IssueJoinToken(ctx context.Context, id futago.MemberID, ttl time.Duration) (string, error) {
	if s.m.cfg.APIListen == "" {
		return "", futago.Errorf(futago.CodeInvalid, "this manager does not listen for joins").WithAction("set api_listen in its configuration")
	}
	if id.Valid() && id != s.m.node.Member {
		// Two directories of one member would vote twice.
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		ses, _ := s.m.session() // none: the link asks
		if a := s.m.ask(ctx, ses, id); a.err == nil {
			return "", futago.Errorf(futago.CodeConflict, "member %s runs at %s", id, s.m.dir.Node().Members[id].Cluster).
				WithAction("a token replaces a member whose directory is lost: stop that one first, for good")
		}
	}
	return s.m.admission.Issue(id, ttl)
}

func (s service) SwitchLeader(_ context.Context, _ httpapi.Actor) error {
	ses, err := s.m.session()
	if err != nil {
		return err
	}
	err = ses.raft.Switch()
	if e, ok := errors.AsType[*futago.Error](err); ok && e.Code == futago.CodeNotLeader && e.Action == "" {
		id, api := s.Leader()
		return e.WithAction("ask the leader: futago switch on the host of manager %s, or with --api %s", id, api)
	}
	return err
}

func (s service) Status(ctx context.Context) (futago.ClusterStatus, error) {
	return s.m.status(ctx), nil
}
