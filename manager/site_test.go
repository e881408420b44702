package manager_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/manager"
	"github.com/futago/futago/raftfsm/thirdvote"
	"github.com/futago/futago/raftfsm/thirdvote/httpregister"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/witness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a cluster of managers of this process, each on a loopback address of
// its own with fixed ports, and a witness.
type site struct {
	t       *testing.T
	root    string
	hosts   map[futago.MemberID]string
	running map[futago.MemberID]*running
	kind    cluster.ThirdVote
	metrics map[futago.MemberID]*prometheus.Registry
	change  func(futago.MemberID, *manager.Config)
}

// running is one manager under way.
type running struct {
	m    *manager.Manager
	stop context.CancelFunc
	done chan error
	log  *logBuffer
}

// logBuffer keeps a manager's log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Ports of every host of a site.
const (
	apiPort, clusterPort, syslogPort, customPort = "7700", "7701", "5514", "8082"
)

// newSite makes manager a; nothing runs yet but the witness.
func newSite(t *testing.T, kind cluster.ThirdVote) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("runs whole members")
	}
	var r [2]byte
	_, _ = rand.Read(r[:]) // all of 127.0.0.0/8 is this host; tests of other processes take other addresses
	s := &site{
		t: t, kind: kind, root: t.TempDir(), running: map[futago.MemberID]*running{}, hosts: map[futago.MemberID]string{},
		metrics: map[futago.MemberID]*prometheus.Registry{},
		change:  func(futago.MemberID, *manager.Config) {},
	}
	for i, id := range []futago.MemberID{futago.MemberA, futago.MemberB, futago.MemberW} {
		s.hosts[id] = fmt.Sprintf("127.%d.%d.%d", 1+r[0]%250, r[1], 10+i)
	}
	t.Cleanup(func() {
		for id := range s.running {
			if r, err := s.stop(id); err != nil {
				t.Errorf("manager %s ended with %v\n%s", id, err, r.log)
			} else if t.Failed() {
				t.Logf("log of %s:\n%s", id, r.log)
			}
		}
	})
	o := cluster.InitOptions{
		Dir: s.dir(futago.MemberA), ClusterName: "test", ThirdVote: kind, Now: time.Now(), Addresses: s.addresses(futago.MemberA),
	}
	var inv witness.Invitation
	if kind == cluster.ThirdVoteRegister {
		inv = s.witness()
		o.Invitation = inv.Encode()
	}
	d, err := cluster.Init(o)
	s.must(err)
	if kind == cluster.ThirdVoteRegister {
		reg, err := httpregister.New(httpregister.Options{Invitation: inv})
		s.must(err)
		_, err = thirdvote.Create(t.Context(), reg, futago.MemberA, register.Identity(d.Node().Identity()))
		s.must(err)
		s.must(reg.Close())
	}
	s.must(d.Close())
	return s
}

// newPair is a site with both managers running and nothing to wish for.
func newPair(t *testing.T) *site {
	t.Helper()
	s := newSite(t, cluster.ThirdVoteRegister)
	s.start(futago.MemberA)
	s.join(futago.MemberA, futago.MemberB)
	s.start(futago.MemberB)
	s.awaitWord(futago.MemberA, futago.RedundancyFull)
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) witness() witness.Invitation {
	addr := net.JoinHostPort(s.hosts[futago.MemberW], "7702")
	dir := filepath.Join(s.root, "witness")
	inv, err := witness.NewInvitation(witness.InvitationOptions{Dir: dir, Cluster: "test", URL: "https://" + addr, Now: time.Now})
	s.must(err)
	w, err := witness.New(witness.Config{Dir: dir, Listen: addr, Logger: slog.New(slog.DiscardHandler)})
	s.must(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, w.Close()); err != nil {
			s.t.Errorf("the witness ended with %v", err)
		}
	})
	return inv
}

func (s *site) dir(id futago.MemberID) string { return filepath.Join(s.root, string(id)) }

func (s *site) addresses(id futago.MemberID) cluster.Addresses {
	a := cluster.Addresses{Cluster: net.JoinHostPort(s.hosts[id], clusterPort), API: net.JoinHostPort(s.hosts[id], apiPort)}
	if id == futago.MemberW {
		a.API = ""
	}
	return a
}

func (s *site) config(id futago.MemberID) manager.Config {
	at := func(port string) string { return net.JoinHostPort(s.hosts[id], port) }
	c := manager.DefaultConfig()
	c.DataDir, c.MinFree = s.dir(id), 1<<20
	c.Heartbeat = futago.Duration(200 * time.Millisecond)
	c.APIListen, c.ClusterListen = at(apiPort), at(clusterPort)
	c.Syslog.UDP, c.Syslog.TCP, c.Syslog.TLS = at(syslogPort), at(syslogPort), ""
	c.SNMPTrap.UDP, c.CustomTrap.HTTP, c.CustomTrap.HTTPS = "", at(customPort), ""
	s.change(id, &c)
	return c
}

// open makes a manager without running it.
func (s *site) open(id futago.MemberID) (*manager.Manager, *logBuffer, error) {
	log := &logBuffer{}
	m, err := manager.New(s.t.Context(), manager.Options{
		Config: s.config(id), Registry: s.registry(id), Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	return m, log, err
}

// registry makes a new one, which is strict.
func (s *site) registry(id futago.MemberID) *prometheus.Registry {
	s.metrics[id] = prometheus.NewPedanticRegistry()
	return s.metrics[id]
}

func (s *site) start(id futago.MemberID) *running {
	s.t.Helper()
	m, log, err := s.open(id)
	s.must(err)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{m: m, stop: stop, done: make(chan error, 1), log: log}
	go func() { r.done <- m.Run(ctx) }()
	s.running[id] = r
	return r
}

func (s *site) stop(id futago.MemberID) (*running, error) {
	s.t.Helper()
	r := s.running[id]
	delete(s.running, id)
	r.stop()
	select {
	case err := <-r.done:
		if cerr := r.m.Close(); err == nil {
			err = cerr
		}
		return r, err
	case <-time.After(30 * time.Second):
		s.t.Fatalf("manager %s does not end\n%s", id, r.log)
		return r, nil
	}
}

func (s *site) mustStop(id futago.MemberID) {
	s.t.Helper()
	if r, err := s.stop(id); err != nil {
		s.t.Fatalf("manager %s ended with %v\n%s", id, err, r.log)
	}
}

// join makes member id by a token of the manager at.
func (s *site) join(at, id futago.MemberID) {
	s.t.Helper()
	var issued struct{ Token string }
	s.eventually("a join token", func() error {
		return s.client(at, func(c *client.Client) error {
			return c.Do(s.t.Context(), http.MethodPost, "/api/v1/join-tokens", "", map[string]string{"member": string(id), "valid": "1h"}, &issued)
		})
	})
	d, err := cluster.Join(s.t.Context(), cluster.JoinOptions{Dir: s.dir(id), Token: issued.Token, Addresses: s.addresses(id), Now: time.Now()})
	s.must(err)
	s.must(d.Close())
}

// client talks to a manager over its local socket.
func (s *site) client(id futago.MemberID, f func(*client.Client) error) error {
	c, err := client.New(client.Config{Socket: filepath.Join(s.dir(id), manager.SocketName)})
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

func (s *site) status(id futago.MemberID) (st futago.ClusterStatus, err error) {
	err = s.client(id, func(c *client.Client) (err error) {
		st, err = c.Status(s.t.Context())
		return err
	})
	return st, err
}

// patience bounds every wait of these tests; on a loaded machine a cluster may
// need long.
const patience = 40 * time.Second

// eventually repeats f until it returns nil.
func (s *site) eventually(what string, f func() error) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitWord waits until a manager reports the redundancy word, and a finding
// with each of the texts.
func (s *site) awaitWord(id futago.MemberID, want futago.Redundancy, findings ...string) (st futago.ClusterStatus) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s reports %s", id, want), func() (err error) {
		if st, err = s.status(id); err != nil {
			return err
		}
		all := strings.Join(st.Findings, "\n")
		if st.Redundancy != want {
			return fmt.Errorf("it is %s: %s", st.Redundancy, all)
		}
		for _, f := range findings {
			if !strings.Contains(all, f) {
				return fmt.Errorf("no %q in the findings: %s", f, all)
			}
		}
		return nil
	})
	return st
}

// self is a member's report on itself.
func (s *site) self(id futago.MemberID) (ms futago.MemberStatus, err error) {
	st, err := s.status(id)
	for _, m := range st.Members {
		if m.Member == id {
			ms = m
		}
	}
	return ms, err
}

// stopped waits until a member says in its status why it takes no part.
func (s *site) stopped(id futago.MemberID, code futago.Code, words ...string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s stops with %s", id, code), func() error {
		ms, err := s.self(id)
		if err != nil {
			return err
		}
		if ms.Local.State != string(code) {
			return fmt.Errorf("its state is %q: %s", ms.Local.State, ms.Local.Detail)
		}
		for _, w := range words {
			if !strings.Contains(ms.Local.Detail, w) {
				s.t.Errorf("%q is missing in: %s", w, ms.Local.Detail)
			}
		}
		return nil
	})
}

// send gives one syslog message to the managers' UDP port.
func (s *site) send(text string, to ...futago.MemberID) {
	s.t.Helper()
	for _, id := range to {
		var d net.Dialer
		c, err := d.DialContext(s.t.Context(), "udp", net.JoinHostPort(s.hosts[id], syslogPort))
		s.must(err)
		_, err = fmt.Fprintf(c, "<30>Nov 22 03:04:05 host app: %s", text)
		s.must(err)
		s.must(c.Close())
	}
}

// recorded waits until a manager's history has text once.
func (s *site) recorded(id futago.MemberID, text string) (e futago.Event) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%q is recorded on %s", text, id), func() error {
		return s.client(id, func(c *client.Client) error {
			p, err := c.Events(s.t.Context(), futago.EventQuery{Limit: 1000})
			if err != nil {
				return err
			}
			n := 0
			for _, ev := range p.Events {
				if ev.Trap.Message == text {
					e = ev
					n++
				}
			}
			if n != 1 {
				return fmt.Errorf("it is there %d times", n)
			}
			return nil
		})
	})
	return e
}

// custom posts a custom trap; a nil error means committed.
func (s *site) custom(to futago.MemberID, msg string) error {
	body := fmt.Sprintf(`{"FacilityID":"T","DATA":[{"TYPE":"STRING","KEY":"k","MSG":%q}]}`, msg)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+net.JoinHostPort(s.hosts[to], customPort)+"/", strings.NewReader(body))
	if err != nil {
		return err
	}
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}

// leader waits until a manager knows one.
func (s *site) leader(ask futago.MemberID) (id futago.MemberID) {
	s.t.Helper()
	s.eventually("a leader", func() error {
		st, err := s.status(ask)
		if id = st.Leader; err == nil && id == "" {
			err = fmt.Errorf("none: %q", st.Findings)
		}
		return err
	})
	return id
}

func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// flip damages one byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}
