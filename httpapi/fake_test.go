package httpapi_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/argon2"

	"github.com/futago/futago"
	"github.com/futago/futago/account"
	"github.com/futago/futago/httpapi"
	"github.com/futago/futago/raftfsm/command"
)

// at is when everything in these tests happens.
var at = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// fake is a Backend in memory. Functions that are set replace its own answers.
type fake struct {
	mu       sync.Mutex
	member   futago.MemberID
	leader   futago.MemberID
	events   []futago.Event
	users    map[string]futago.User
	tokens   map[string]futago.Token
	settings futago.IntakeSettings
	status   futago.ClusterStatus
	done     map[command.ID]bool
	actors   []httpapi.Actor
	verified int
	subs     int           // subscriptions that were made
	changed  chan struct{} // closed by a change
	stopped  chan struct{} // closed when the manager ends

	readErr   error // of every read of events
	verifyErr error
	changeErr error // of every change
	readyErr  error
	statusErr error
	lastQuery futago.EventQuery
}

var _ httpapi.Backend = (*fake)(nil)

func newFake() *fake {
	return &fake{
		member: "a", leader: "a", users: map[string]futago.User{}, tokens: map[string]futago.Token{},
		settings: futago.IntakeSettings{Revision: 1, Dedup: map[futago.Kind]futago.DedupRule{}},
		done:     map[command.ID]bool{}, changed: make(chan struct{}), stopped: make(chan struct{}),
		status: futago.ClusterStatus{
			ClusterName: "lab", ClusterID: "6f1d", Redundancy: futago.RedundancyFull, Leader: "a", LeaderSince: at.Add(-time.Hour), Term: 7,
			ThirdVote: futago.ThirdVoteStatus{Kind: "register", Reachable: true, Holders: "a,b", Version: 12, Term: 7, Address: "https://w:7702"},
			Equality:  futago.Equality{State: "equal", Index: 41_234}, ReportedBy: "a", Now: at,
			Members: []futago.MemberStatus{memberStatus("a", "leader"), memberStatus("b", "follower")},
		},
	}
}

func memberStatus(id futago.MemberID, role string) futago.MemberStatus {
	return futago.MemberStatus{
		Member: id, Address: "host-" + string(id) + ":7700", Reachable: true, Role: role, Term: 7, Applied: 41_234, Commit: 41_234,
		Local: futago.LocalStatus{
			Version: "test", State: "running", FreeBytes: 12 << 30, DatabaseBytes: 80 << 20,
			Spool: futago.SpoolStatus{Depth: 3, Bytes: 900, LimitBytes: 1 << 30},
			Receivers: []futago.ReceiverStatus{
				{Name: "syslog/udp", Address: "[::]:514", Received: 1_234_567, Dropped: 2},
				{Name: "snmptrap/udp", Address: "[::]:162", Received: 89},
			},
		},
	}
}

func (f *fake) Status(context.Context) (futago.ClusterStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status, f.statusErr
}

func (f *fake) Member() futago.MemberID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.member
}

func (f *fake) Leader() (futago.MemberID, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leader == "" {
		return "", ""
	}
	return f.leader, "host-" + string(f.leader) + ":7700"
}

func (f *fake) Ready(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.readyErr
}

func (f *fake) VerifyRead(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verified++
	return f.verifyErr
}

// Events pages as the contract says, with the filters that tests use.
func (f *fake) Events(_ context.Context, q futago.EventQuery) (futago.EventPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastQuery = q
	if f.readErr != nil {
		return futago.EventPage{}, f.readErr
	}
	limit := cmp.Or(q.Limit, 100)
	var out []futago.Event
	for _, e := range f.events {
		if (q.Before > 0 && e.ID >= q.Before) || e.ID <= q.After || (len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Trap.Kind)) {
			continue
		}
		out = append(out, e)
	}
	if !q.Ascending {
		slices.Reverse(out)
	}
	p := futago.EventPage{Events: out, Complete: true}
	if len(out) > limit {
		p.Events = out[:limit]
		p.Next = out[limit-1].ID
	}
	return p, nil
}

func (f *fake) Event(_ context.Context, id uint64) (futago.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.ID == id {
			return e, nil
		}
	}
	return futago.Event{}, futago.Errorf(futago.CodeNotFound, "event %d does not exist", id)
}

func (f *fake) Subscribe(ctx context.Context) <-chan struct{} {
	f.mu.Lock()
	f.subs++
	f.mu.Unlock()
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		for {
			f.mu.Lock()
			changed := f.changed
			f.mu.Unlock()
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-f.stopped:
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// add records events and tells subscribers.
func (f *fake) add(events ...futago.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		e.ID = uint64(len(f.events) + 1)
		f.events = append(f.events, e)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// propose does a change once for each id, as the log does.
func (f *fake) propose(_ context.Context, a httpapi.Actor, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actors = append(f.actors, a)
	if f.changeErr != nil {
		return f.changeErr
	}
	if f.leader != f.member && !a.Local {
		return futago.Errorf(futago.CodeNotLeader, "manager %s is the standby", f.member)
	}
	if f.done[a.Proposal] {
		return nil
	}
	if err := do(); err != nil {
		return err
	}
	f.done[a.Proposal] = true
	return nil
}

func (f *fake) IntakeSettings(context.Context) (futago.IntakeSettings, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settings, nil
}

func (f *fake) PutIntakeSettings(ctx context.Context, a httpapi.Actor, s futago.IntakeSettings) (futago.IntakeSettings, error) {
	if err := s.Validate(); err != nil {
		return s, err
	}
	want := s
	want.Revision++
	err := f.propose(ctx, a, func() error {
		if s.Revision != f.settings.Revision {
			return futago.Errorf(futago.CodeConflict, "the settings are at revision %d", f.settings.Revision)
		}
		f.settings = want
		return nil
	})
	return want, err
}

func (f *fake) Users(context.Context) ([]futago.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []futago.User{}
	for _, u := range f.users {
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b futago.User) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (f *fake) User(_ context.Context, name string) (futago.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.users[name]
	if !ok {
		return u, futago.Errorf(futago.CodeNotFound, "user %q does not exist", name)
	}
	return u, nil
}

func (f *fake) PutUser(ctx context.Context, a httpapi.Actor, u futago.User, create bool) error {
	return f.propose(ctx, a, func() error {
		if _, ok := f.users[u.Name]; ok && create {
			return futago.Errorf(futago.CodeConflict, "user %q exists already", u.Name)
		}
		f.users[u.Name] = u
		return nil
	})
}

func (f *fake) DeleteUser(ctx context.Context, a httpapi.Actor, name string) error {
	return f.propose(ctx, a, func() error {
		if _, ok := f.users[name]; !ok {
			return futago.Errorf(futago.CodeNotFound, "user %q does not exist", name)
		}
		delete(f.users, name)
		return nil
	})
}

func (f *fake) Tokens(context.Context) ([]futago.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []futago.Token{}
	for _, t := range f.tokens {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b futago.Token) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func (f *fake) Token(_ context.Context, id string) (futago.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tokens[id]
	if !ok {
		return t, futago.Errorf(futago.CodeNotFound, "token %q does not exist", id)
	}
	return t, nil
}

func (f *fake) PutToken(ctx context.Context, a httpapi.Actor, t futago.Token) error {
	return f.propose(ctx, a, func() error {
		t.CreatedBy = a.Name
		f.tokens[t.ID] = t
		return nil
	})
}

func (f *fake) DeleteToken(ctx context.Context, a httpapi.Actor, id string) error {
	return f.propose(ctx, a, func() error {
		if _, ok := f.tokens[id]; !ok {
			return futago.Errorf(futago.CodeNotFound, "token %q does not exist", id)
		}
		delete(f.tokens, id)
		return nil
	})
}

func (f *fake) IssueJoinToken(_ context.Context, m futago.MemberID, ttl time.Duration) (string, error) {
	if m == "a" {
		return "", futago.Errorf(futago.CodeConflict, "member a is here already")
	}
	return fmt.Sprintf("join-%s-%s", m, ttl), nil
}

func (f *fake) SwitchLeader(ctx context.Context, a httpapi.Actor) error {
	return f.propose(ctx, a, func() error {
		f.leader = f.leader.Peer()
		return nil
	})
}

// trap makes an event that both managers received.
func trap(kind futago.Kind, message string) futago.Event {
	e := futago.Event{
		At: at, Count: 1, Copies: 2, Reason: futago.ReasonPaired,
		Receipts: []futago.Receipt{{Member: "a", Count: 1, First: at, Last: at}, {Member: "b", Count: 1, First: at.Add(3 * time.Millisecond), Last: at.Add(3 * time.Millisecond)}},
		Trap: futago.Trap{
			Kind: kind, Transport: futago.TransportUDP, Source: netip.MustParseAddrPort("192.0.2.7:50123"), Severity: futago.SeverityError,
			Parsed: true, Charset: "utf-8", Host: "sw1", Message: message, Raw: []byte(message),
		},
	}
	if kind == futago.KindSyslog {
		e.Trap.Syslog = &futago.SyslogFields{Format: "rfc5424", Facility: 3, HasPRI: true, App: "kernel"}
	}
	return e
}

// server is an API over a fake, with one token for each role.
type server struct {
	*httptest.Server
	fake   *fake
	api    *httpapi.API
	tokens map[futago.Role]string
	clock  *clock
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

const password = "correct horse battery"

// passwordHash is of the password at the least cost, for hashing is slow on purpose.
var passwordHash = func() string {
	salt, enc := []byte("0123456789abcdef"), base64.RawStdEncoding
	return "$argon2id$v=19$m=64,t=1,p=1$" + enc.EncodeToString(salt) + "$" + enc.EncodeToString(argon2.IDKey([]byte(password), salt, 1, 64, 1, 32))
}()

func newServer(t *testing.T) *server {
	t.Helper()
	return serve(t, newFake())
}

func newAPI(t testing.TB, f httpapi.Backend, now func() time.Time) *httpapi.API {
	t.Helper()
	api, err := httpapi.New(httpapi.Options{
		Backend: f, Gatherer: prometheus.NewRegistry(), SessionKey: [32]byte{1, 2, 3}, Version: "test",
		Join:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "joined") }),
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError + 1})), Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func serve(t *testing.T, f *fake) *server {
	t.Helper()
	return serveAs(t, f, f)
}

// serveLocal serves what the local socket does.
func serveLocal(t *testing.T, f *fake) *server {
	t.Helper()
	s := serve(t, f)
	s.Config.Handler = s.api.LocalHandler()
	return s
}

// serveBackend serves a Backend that stands before a fake.
func serveBackend(t *testing.T, b panicking) *server {
	t.Helper()
	return serveAs(t, b.fake, b)
}

func serveAs(t *testing.T, f *fake, b httpapi.Backend) *server {
	t.Helper()
	s := &server{fake: f, tokens: map[futago.Role]string{}, clock: &clock{now: at}}
	s.api = newAPI(t, b, s.clock.Now)
	for _, role := range []futago.Role{futago.RoleAdmin, futago.RoleOperator, futago.RoleViewer} {
		id, text, hash := account.NewToken()
		f.tokens[id] = futago.Token{ID: id, Name: string(role), Role: role, SecretHash: hash}
		s.tokens[role] = text
	}
	f.users["mai"] = futago.User{Name: "mai", Role: futago.RoleViewer, PasswordHash: passwordHash}
	s.Server = httptest.NewTLSServer(s.api.Handler())
	t.Cleanup(func() {
		_ = s.api.Close()
		s.CloseClientConnections()
		s.Close()
	})
	return s
}
