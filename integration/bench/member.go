package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/machine"
	"github.com/futago/futago/raftfsm/thirdvote"
	"github.com/futago/futago/raftfsm/thirdvote/httpregister"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/witness"
	"github.com/futago/futago/store"
)

// member is a Raft member inside this program, without the receivers and the
// API around it: what a proposal costs by itself.
type member struct {
	dir     *cluster.Dir
	link    *raftfsm.Link
	store   *store.Store
	machine *machine.Machine
	reg     *httpregister.Register
	node    *raftfsm.Node
}

// openMember starts the member of a data directory.
func openMember(ctx context.Context, path string, openLog func(string) (raftfsm.LogStore, error)) (_ *member, err error) {
	m := &member{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	log := slog.New(slog.DiscardHandler)
	if m.dir, err = cluster.Open(path); err != nil {
		return nil, err
	}
	id := m.dir.Node()
	if m.link, err = raftfsm.Listen(ctx, id.Members[id.Member].Cluster, id, m.dir.Keys(), log); err != nil {
		return nil, err
	}
	if m.store, err = store.Open(ctx, store.Options{Path: m.dir.Path("state.db"), ClusterID: id.ClusterID}); err != nil {
		return nil, err
	}
	if m.machine, err = machine.Open(ctx, m.store, machine.Options{}); err != nil {
		return nil, err
	}
	text, err := m.dir.Keys().Open(id.Invitation)
	if err != nil {
		return nil, err
	}
	inv, err := witness.ParseInvitation(text)
	if err != nil {
		return nil, err
	}
	if m.reg, err = httpregister.New(httpregister.Options{Invitation: inv}); err != nil {
		return nil, err
	}
	m.node, err = raftfsm.Open(ctx, raftfsm.Config{
		Dir: m.dir, Link: m.link, Timing: raftfsm.DefaultTiming(), Store: m.store, Machine: m.machine, Logger: log, Now: time.Now,
		Vote: &raftfsm.VoteConfig{Register: m.reg}, OpenLog: openLog,
	})
	return m, err
}

func (m *member) close() error {
	var errs []error
	if m.node != nil {
		errs = append(errs, m.node.Close())
	}
	if m.reg != nil {
		errs = append(errs, m.reg.Close())
	}
	for _, c := range []io.Closer{closer(m.link != nil, m.link), closer(m.store != nil, m.store), closer(m.dir != nil, m.dir)} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func closer(there bool, c io.Closer) io.Closer {
	if !there {
		return nil
	}
	return c
}

// pair is two members inside this program, with a witness process beside it.
type pair struct {
	witness *process
	members []*member
}

// newPair makes a cluster of two members in an empty directory. They were
// never run before, so that any log store can be put under them.
func newPair(ctx context.Context, o *options, root string, openLog func(string) (raftfsm.LogStore, error)) (_ *pair, err error) {
	if err := os.RemoveAll(root); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	p := &pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	c := &testCluster{bin: o.bin, root: root}
	wdir := filepath.Join(root, "witness")
	inv, err := c.futago(ctx, "witness", "invite", "--data", wdir, "--cluster", "bench", "--url", "https://"+witnessAddr)
	if err != nil {
		return nil, err
	}
	p.witness, err = startProcess(ctx, filepath.Join(root, "witness.log"), o.bin, "witness", "run", "--data", wdir, "--listen", witnessAddr)
	if err != nil {
		return nil, err
	}
	if err := p.found(ctx, root, strings.TrimSpace(inv)); err != nil {
		return nil, err
	}
	for _, id := range []string{"a", "b"} {
		m, err := openMember(ctx, filepath.Join(root, id), openLog)
		if err != nil {
			return nil, err
		}
		p.members = append(p.members, m)
	}
	// Acting with both managers holding: that is what is measured.
	return p, eventually(ctx, 30*time.Second, func() error {
		l := p.leader()
		if l == nil {
			return errors.New("nobody leads")
		}
		if s, _ := l.node.VoteStatus(); s.Solo {
			return errors.New("the leader is alone")
		}
		return nil
	})
}

// found makes both data directories and the register's first record.
func (p *pair) found(ctx context.Context, root, inv string) error {
	addr := func(i int) cluster.Addresses {
		return cluster.Addresses{Cluster: fmt.Sprintf("127.0.0.%d:17701", 21+i), API: fmt.Sprintf("127.0.0.%d:17700", 21+i)}
	}
	a, err := cluster.Init(cluster.InitOptions{
		Dir: filepath.Join(root, "a"), ClusterName: "bench", ThirdVote: cluster.ThirdVoteRegister, Invitation: inv, Addresses: addr(0), Now: time.Now(),
	})
	if err != nil {
		return err
	}
	defer a.Close()
	i, err := witness.ParseInvitation(inv)
	if err != nil {
		return err
	}
	reg, err := httpregister.New(httpregister.Options{Invitation: i})
	if err != nil {
		return err
	}
	defer reg.Close()
	err = eventually(ctx, 10*time.Second, func() error {
		_, err := thirdvote.Create(ctx, reg, futago.MemberA, register.Identity(a.Node().Identity()))
		if errors.Is(err, register.ErrExists) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	adm := cluster.NewAdmission(a, time.Now, nil)
	srv := httptest.NewUnstartedServer(adm)
	srv.TLS = a.Keys().ServerTLS()
	if err := srv.Listener.Close(); err != nil {
		return err
	}
	if srv.Listener, err = listen(ctx, addr(0).API); err != nil {
		return err
	}
	srv.StartTLS()
	defer srv.Close()
	token, err := adm.Issue(futago.MemberB, time.Hour)
	if err != nil {
		return err
	}
	b, err := cluster.Join(ctx, cluster.JoinOptions{Dir: filepath.Join(root, "b"), Token: token, Addresses: addr(1), Now: time.Now()})
	if err != nil {
		return err
	}
	return b.Close()
}

func (p *pair) leader() *member {
	for _, m := range p.members {
		if m.node.Acting() {
			return m
		}
	}
	return nil
}

func (p *pair) close() error {
	var errs []error
	for _, m := range p.members {
		errs = append(errs, m.close())
	}
	p.witness.stop(syscall.SIGTERM)
	return errors.Join(errs...)
}

// memoryLog is a log that is lost with the process: what is left of a
// proposal's cost when no disk is waited for.
type memoryLog struct{ *raft.InmemStore }

func openMemoryLog(string) (raftfsm.LogStore, error) { return memoryLog{raft.NewInmemStore()}, nil }

// Close implements [raftfsm.LogStore].
func (memoryLog) Close() error { return nil }
