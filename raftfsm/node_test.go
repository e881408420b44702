package raftfsm_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/raftfsm/machine"
	"github.com/futago/futago/raftfsm/thirdvote"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
	"github.com/futago/futago/store"
)

// heartbeat of the tests' clusters: short, and long enough for a loaded machine.
const heartbeat = 200 * time.Millisecond

// member is one running member with everything real but the register.
type member struct {
	id    futago.MemberID
	dir   *cluster.Dir
	link  *raftfsm.Link
	store *store.Store
	mach  *machine.Machine
	node  *raftfsm.Node
}

// rig is a cluster on loopback.
type rig struct {
	t       *testing.T
	reg     *registertest.Register // nil for the manager kind
	members map[futago.MemberID]*member
	dirs    map[futago.MemberID]string
}

func newRig(t *testing.T, reg *registertest.Register) *rig {
	t.Helper()
	r := &rig{t: t, reg: reg, members: map[futago.MemberID]*member{}, dirs: map[futago.MemberID]string{}}
	kind, inv := cluster.ThirdVoteManager, ""
	if reg != nil {
		kind, inv = cluster.ThirdVoteRegister, "unused"
	}
	root := t.TempDir()
	ids := []futago.MemberID{futago.MemberA, futago.MemberB}
	if reg == nil {
		ids = append(ids, futago.MemberW)
	}
	for _, id := range ids {
		r.dirs[id] = filepath.Join(root, string(id))
	}
	srv := httptest.NewUnstartedServer(nil)
	a, err := cluster.Init(cluster.InitOptions{
		Dir: r.dirs[futago.MemberA], ClusterName: "test", ThirdVote: kind, Invitation: inv, Now: time.Now(),
		Addresses: cluster.Addresses{Cluster: "localhost:1", API: srv.Listener.Addr().String()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if reg != nil {
		if _, err := thirdvote.Create(t.Context(), reg.Client(), futago.MemberA, register.Identity(a.Node().Identity())); err != nil {
			t.Fatal(err)
		}
	}
	adm := cluster.NewAdmission(a, time.Now, nil)
	srv.Config.Handler, srv.TLS = adm, a.Keys().ServerTLS()
	srv.StartTLS()
	defer srv.Close()
	for _, id := range ids[1:] {
		token, err := adm.Issue(id, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		d, err := cluster.Join(t.Context(), cluster.JoinOptions{
			Dir: r.dirs[id], Token: token, Addresses: cluster.Addresses{Cluster: "localhost:1", API: "localhost:1"}, Now: time.Now(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for id := range r.members {
			r.stop(id)
		}
	})
	return r
}

// start runs a member; the others learn its port.
func (r *rig) start(id futago.MemberID) *member {
	r.t.Helper()
	m, err := r.open(id)
	if err != nil {
		r.t.Fatalf("start %s: %v", id, err)
	}
	r.members[id] = m
	return m
}

// open makes a member, or returns why it cannot be.
func (r *rig) open(id futago.MemberID) (_ *member, err error) {
	log := slog.New(slog.NewTextHandler(testWriter{r.t, string(id)}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx := context.Background()
	m := &member{id: id}
	if m.dir, err = cluster.Open(r.dirs[id]); err != nil {
		return nil, err
	}
	undo := []func() error{m.dir.Close}
	defer func() {
		for i := len(undo) - 1; i >= 0 && err != nil; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	if m.link, err = raftfsm.Listen(ctx, "127.0.0.1:0", m.dir.Node(), m.dir.Keys(), log); err != nil {
		return nil, err
	}
	undo = append(undo, m.link.Close)
	m.store, err = store.Open(ctx, store.Options{Path: m.dir.Path("state.db"), ClusterID: m.dir.Node().ClusterID, Logger: log})
	if err != nil {
		return nil, err
	}
	undo = append(undo, m.store.Close)
	if m.mach, err = machine.Open(ctx, m.store, machine.Options{Logger: log}); err != nil {
		return nil, err
	}
	for _, o := range r.members {
		m.link.SetAddress(o.id, o.link.Addr().String())
		o.link.SetAddress(id, m.link.Addr().String())
	}
	cfg := raftfsm.Config{
		Dir: m.dir, Link: m.link, Timing: raftfsm.Timing{Heartbeat: heartbeat}, Store: m.store, Machine: m.mach, Logger: log, Now: time.Now,
	}
	if r.reg != nil {
		cfg.Vote = &raftfsm.VoteConfig{Register: r.reg.Client()}
	}
	m.node, err = raftfsm.Open(ctx, cfg)
	return m, err
}

// stop ends a member; its directory stays.
func (r *rig) stop(id futago.MemberID) {
	r.t.Helper()
	m := r.members[id]
	delete(r.members, id)
	for _, err := range []error{m.node.Close(), m.link.Close(), m.store.Close(), m.dir.Close()} {
		if err != nil {
			r.t.Errorf("stop %s: %v", id, err)
		}
	}
}

// leader waits for a member that acts.
func (r *rig) leader() *member {
	r.t.Helper()
	var found *member
	wait(r.t, "a leader", func() bool {
		for _, m := range r.members {
			if m.node.Acting() {
				found = m
			}
		}
		return found != nil
	})
	return found
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in time", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

type testWriter struct {
	t  *testing.T
	id string
}

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s %s", w.id, b)
	return len(b), nil
}

func user(n byte, name string) *command.PutUser {
	return &command.PutUser{
		Meta: command.Meta{ID: command.ID{0xee, n}, At: time.Unix(1790000000, 0).UTC(), By: "test"},
		User: futago.User{Name: name, Role: futago.RoleAdmin, PasswordHash: "x"}, Create: true,
	}
}

func (r *rig) propose(m *member, p command.Proposal) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	if _, err := m.node.Propose(ctx, p); err != nil {
		r.t.Fatalf("propose through %s: %v", m.id, err)
	}
}

func (m *member) has(name string) bool {
	_, err := m.store.User(context.Background(), name)
	return err == nil
}

func TestNode_Register(t *testing.T) {
	r := newRig(t, registertest.New())
	a := r.start(futago.MemberA)
	r.propose(a, user(1, "alone")) // one manager works by itself
	b := r.start(futago.MemberB)
	r.propose(b, user(2, "forwarded")) // b is the standby, and new
	wait(t, "both entries on b", func() bool { return b.has("alone") && b.has("forwarded") })
	wait(t, "readmission", func() bool { s, _ := r.leader().node.VoteStatus(); return s.Record.Holders == register.Both })

	t.Run("a repeated proposal has no effect", func(t *testing.T) {
		before := a.mach.Applied().Index
		r.propose(a, user(2, "forwarded"))
		if users, err := a.store.Users(t.Context()); err != nil || len(users) != 2 {
			t.Errorf("%d users, %v; entry %d to %d", len(users), err, before, a.mach.Applied().Index)
		}
	})
	t.Run("leader dies", func(t *testing.T) {
		r.stop(r.leader().id)
		l := r.leader()
		r.propose(l, user(3, "after"))
		other := r.start(l.id.Peer())
		wait(t, "the returned one to catch up", func() bool { return other.has("after") })
		wait(t, "readmission", func() bool { s, _ := r.leader().node.VoteStatus(); return s.Record.Holders == register.Both })
	})
	t.Run("planned switch", func(t *testing.T) {
		old := r.leader()
		if err := old.node.Switch(); err != nil {
			t.Fatal(err)
		}
		wait(t, "the other leader", func() bool { return r.members[old.id.Peer()].node.Acting() })
		if err := old.node.VerifyRead(t.Context()); futago.CodeOf(err) != futago.CodeNotLeader {
			t.Errorf("the old leader serves linearizable reads: %v", err)
		}
		if err := r.leader().node.VerifyRead(t.Context()); err != nil {
			t.Errorf("the new one does not: %v", err)
		}
	})
	t.Run("same databases", func(t *testing.T) { r.sameDatabases() })
}

func (r *rig) sameDatabases() {
	r.t.Helper()
	var digests [][32]byte
	wait(r.t, "the same entry", func() bool {
		var at []uint64
		for _, m := range r.members {
			at = append(at, m.mach.Applied().Index)
		}
		for _, i := range at {
			if i != at[0] {
				return false
			}
		}
		return true
	})
	var hashes [][32]byte
	for _, m := range r.members {
		a, d, err := m.store.Digest(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		digests, hashes = append(digests, d), append(hashes, a.Hash)
	}
	for i := range digests {
		if digests[i] != digests[0] || hashes[i] != hashes[0] {
			r.t.Errorf("databases differ: digests %x, hashes %x", digests, hashes)
		}
	}
}

func TestNode_Manager(t *testing.T) {
	r := newRig(t, nil)
	r.start(futago.MemberA)
	r.start(futago.MemberW)
	r.propose(r.leader(), user(1, "two of three"))
	if l := r.leader(); l.id == futago.MemberW {
		t.Errorf("the third member acts as leader")
	}
	r.start(futago.MemberB)
	r.propose(r.members[futago.MemberB], user(2, "all"))
	wait(t, "all entries on all", func() bool {
		for _, m := range r.members {
			if !m.has("all") {
				return false
			}
		}
		return true
	})
	if err := r.leader().node.VerifyRead(t.Context()); err != nil {
		t.Errorf("linearizable read: %v", err)
	}
	r.stop(r.leader().id)
	r.propose(r.leader(), user(3, "one down"))
	r.sameDatabases()
}

// A member that was away for longer than the log goes back gets the database.
func TestNode_Install(t *testing.T) {
	r := newRig(t, registertest.New())
	a := r.start(futago.MemberA)
	for i := range byte(50) {
		r.propose(a, user(i, string('a'+rune(i%26))+string('a'+rune(i/26))))
	}
	if err := a.node.CompactForTest(1, 0); err != nil {
		t.Fatal(err)
	}
	b := r.start(futago.MemberB)
	wait(t, "the database on b", func() bool { return b.has("aa") && b.has("xb") })
	r.propose(b, user(200, "after"))
	wait(t, "what came after", func() bool { return b.has("after") })
	r.sameDatabases()
	r.stop(futago.MemberB)
	b = r.start(futago.MemberB)
	r.propose(b, user(201, "again"))
	r.sameDatabases()
}
