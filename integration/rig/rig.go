// Package rig runs a whole cluster of real processes on the hosts of a lab: the
// witness or the third member on w, the managers on a and b, senders on d1.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/integration/lab"
	"github.com/futago/futago/manager"
)

// Rig is one cluster on one lab.
type Rig struct {
	TB  testing.TB
	Lab *lab.Lab
	o   Options

	dirs map[string]string // of Options.Place

	mu    sync.Mutex // guards procs
	procs map[string]*lab.Process
}

// Options of a Rig.
type Options struct {
	// Binary is the futago to run; see Binary.
	Binary string
	// Heartbeat of the managers; 300 ms when 0.
	Heartbeat time.Duration
	// Env is added to the managers' environment.
	Env []string
	// Settings are applied once the cluster runs.
	Settings futago.IntakeSettings
	// Third makes the third vote a third member on w in place of a witness.
	Third bool
	// Place chooses a member's data directory, which is made if it does not
	// exist; nil or "" for one in the lab's scratch directory.
	Place func(host *lab.Host) string
	// Configure changes a member's configuration before it is written. May be nil.
	Configure func(host string, c *manager.Config)
	Lab       lab.Config
}

// SNMPUser is the version 3 user of rigs whose settings come from [Settings].
var SNMPUser = generate.SNMPUser{Name: "rig", Auth: "SHA-256", AuthPass: "authentication", PrivPass: "encryption"}

// Settings are intake settings with the rules given, the defaults for kinds
// without one, and [SNMPUser].
func Settings(rules map[futago.Kind]futago.DedupRule) futago.IntakeSettings {
	if rules == nil {
		rules = map[futago.Kind]futago.DedupRule{}
	}
	return futago.IntakeSettings{
		Dedup: rules,
		SNMPUsers: []futago.SNMPUser{{
			Name: SNMPUser.Name, Auth: SNMPUser.Auth, AuthPass: futago.Secret(SNMPUser.AuthPass), Priv: "AES", PrivPass: futago.Secret(SNMPUser.PrivPass),
		}},
	}
}

// Binary builds the product with extra build tags, once for each set of tags in
// a test process. FUTAGO_BIN names a ready one for the set without tags.
func Binary(tb testing.TB, tags ...string) string {
	tb.Helper()
	key := strings.Join(tags, ",")
	if bin := os.Getenv("FUTAGO_BIN"); bin != "" && key == "" {
		return bin
	}
	v, _ := builds.LoadOrStore(key, sync.OnceValues(func() (string, error) { return build(key) }))
	bin, err := v.(func() (string, error))()
	if err != nil {
		tb.Fatal(err)
	}
	return bin
}

var builds sync.Map // tags to func() (string, error)

func build(tags string) (string, error) {
	dir, err := os.MkdirTemp("", "futago-rig-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "futago")
	cmd := exec.Command("go", "build", "-tags", tags, "-o", bin, "github.com/futago/futago/cmd/futago") //nolint:noctx // bounded by the test's own time
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build futago: %w\n%s", err, out)
	}
	return bin, nil
}

// New builds the lab, makes the cluster and waits until nothing is missing.
func New(tb testing.TB, o Options) *Rig {
	tb.Helper()
	if o.Heartbeat == 0 {
		o.Heartbeat = 300 * time.Millisecond
	}
	r := &Rig{TB: tb, Lab: lab.New(tb, o.Lab), o: o, procs: map[string]*lab.Process{}, dirs: map[string]string{}}
	tb.Cleanup(func() {
		if tb.Failed() {
			r.dump()
		}
	})
	for _, host := range []string{"a", "b", "w"} {
		if o.Place != nil {
			r.dirs[host] = o.Place(r.Lab.Host(host))
		}
	}
	vote := "--third"
	if !o.Third {
		inv := r.futago("w", "", "witness", "invite", "--data", r.Path("w"), "--cluster", "rig", "--url", "https://"+r.addr("w", 7702))
		r.Start("w")
		vote = "--witness=" + strings.TrimSpace(inv)
	}
	r.writeConfig("a")
	r.Await(time.Minute, "init", func() error {
		_, err := r.try("a", "", append([]string{"init", "--name", "rig", vote}, r.where("a")...)...)
		return err
	})
	r.Start("a")
	r.Join("b", "a")
	r.Start("b")
	if o.Third {
		r.Join("w", "a")
		r.Start("w")
	}
	r.AwaitFull(time.Minute)
	r.Await(time.Minute, "settings", func() error { return r.apply(o.Settings) })
	return r
}

// Join makes a member's data directory with a new token of the issuer. The
// directory must be empty.
func (r *Rig) Join(host, issuer string) {
	r.TB.Helper()
	var token string
	r.Await(time.Minute, "join token", func() (err error) {
		token, err = r.try(issuer, "", "token", "join", "--dir", r.Path(issuer), "--member", host)
		return err
	})
	r.writeConfig(host)
	r.futago(host, "", append(append([]string{"join"}, r.where(host)...), strings.TrimSpace(token))...)
}

func (r *Rig) apply(s futago.IntakeSettings) error {
	c := r.Client("a")
	defer c.Close()
	var now futago.IntakeSettings
	if err := c.Get(r.TB.Context(), "/api/v1/settings/intake", nil, &now); err != nil {
		return err
	}
	// Plain secrets do not marshal; the document is written by hand.
	s.Revision = now.Revision
	doc, err := plain(s)
	if err != nil {
		return err
	}
	return c.Do(r.TB.Context(), "PUT", "/api/v1/settings/intake", "", doc, nil)
}

// Path is where a host keeps its data.
func (r *Rig) Path(host string) string {
	if dir := r.dirs[host]; dir != "" {
		return dir
	}
	return filepath.Join(r.Lab.Dir(), "data-"+host)
}

func (r *Rig) config(host string) string { return filepath.Join(r.Lab.Dir(), host+".toml") }

func (r *Rig) addr(host string, port uint16) string { return r.Lab.Host(host).AddrPort(port).String() }

func (r *Rig) where(host string) []string {
	return []string{"--config", r.config(host), "--cluster", r.addr(host, 7701), "--address", r.addr(host, 7700)}
}

func (r *Rig) writeConfig(host string) {
	r.TB.Helper()
	c := manager.DefaultConfig()
	c.DataDir = r.Path(host)
	c.Heartbeat = futago.Duration(r.o.Heartbeat)
	c.MinFree = 1 << 20
	if r.o.Configure != nil {
		r.o.Configure(host, &c)
	}
	b, err := toml.Marshal(c)
	if err == nil {
		err = os.WriteFile(r.config(host), b, 0o600)
	}
	if err != nil {
		r.TB.Fatal(err)
	}
}

// try runs the product on a host and returns what it printed.
func (r *Rig) try(host, stdin string, args ...string) (string, error) {
	var out, errw bytes.Buffer
	cmd := exec.CommandContext(r.TB.Context(), r.o.Binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errw
	err := r.Lab.Host(host).Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("futago %s on %s: %w: %s", args[0], host, err, strings.TrimSpace(errw.String()))
	}
	return out.String(), nil
}

func (r *Rig) futago(host, stdin string, args ...string) string {
	r.TB.Helper()
	out, err := r.try(host, stdin, args...)
	if err != nil {
		r.TB.Fatal(err)
	}
	return out
}

// Verified is what futago verify finds.
type Verified struct {
	Entry        uint64
	Hash, Digest string
}

// Verify runs futago verify on a stopped manager.
func (r *Rig) Verify(host string) (v Verified) {
	r.TB.Helper()
	out := r.futago(host, "", "verify", "--dir", r.Path(host), "-o", "json")
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		r.TB.Fatal(err)
	}
	return v
}

// Start starts the witness or third member (w) or a manager (a, b).
func (r *Rig) Start(host string) {
	r.TB.Helper()
	args := []string{"manager", "--config", r.config(host)}
	if host == "w" && !r.o.Third {
		args = []string{"witness", "run", "--data", r.Path("w"), "--listen", r.addr("w", 7702)}
	}
	p, err := r.Lab.Host(host).Start(context.WithoutCancel(r.TB.Context()), lab.Proc{Name: "futago", Path: r.o.Binary, Args: args, Env: r.o.Env})
	if err != nil {
		r.TB.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.procs[host] = p
}

// Process is the process that Start started last on a host.
func (r *Rig) Process(host string) *lab.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.procs[host]
}

// Client talks to a manager over its local socket, whatever the links do.
func (r *Rig) Client(host string) *client.Client { return r.client(host, 5*time.Second) }

func (r *Rig) client(host string, patience time.Duration) *client.Client {
	r.TB.Helper()
	c, err := client.New(client.Config{Socket: filepath.Join(r.Path(host), manager.SocketName), Timeout: patience})
	if err != nil {
		r.TB.Fatal(err)
	}
	return c
}

// Status asks one manager.
func (r *Rig) Status(host string) (futago.ClusterStatus, error) {
	c := r.Client(host)
	defer c.Close()
	return c.Status(r.TB.Context())
}

// Leader names the host that leads, as either manager says; "" when none does.
func (r *Rig) Leader() string {
	for _, h := range []string{"a", "b"} {
		if s, err := r.Status(h); err == nil && s.Leader != "" {
			return string(s.Leader)
		}
	}
	return ""
}

// Ready waits until the receivers of a manager listen.
func (r *Rig) Ready(host string) {
	r.TB.Helper()
	r.Await(time.Minute, "receivers of "+host, func() error {
		s, err := r.Status(host)
		if err != nil {
			return err
		}
		for _, m := range s.Members {
			if string(m.Member) == host && len(m.Local.Receivers) > 0 {
				return nil
			}
		}
		return errors.New("no receivers yet")
	})
}

// AwaitFull waits until nothing is missing, every spool is empty and both
// managers have applied the same entry.
func (r *Rig) AwaitFull(limit time.Duration) {
	r.TB.Helper()
	if err := r.Healed(limit); err != nil {
		r.TB.Fatal(err)
	}
}

// Healed is [Rig.AwaitFull] for tests that expect the opposite.
func (r *Rig) Healed(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	var why error
	for time.Now().Before(deadline) {
		if why = r.full(); why == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the cluster did not heal in %s: %w", limit, why)
}

func (r *Rig) full() error {
	for _, h := range []string{"a", "b"} {
		s, err := r.Status(h)
		if err != nil {
			return err
		}
		if s.Redundancy != futago.RedundancyFull || s.Equality.State != "equal" {
			return fmt.Errorf("%s says %s, databases %s at %d: %s", h, s.Redundancy, s.Equality.State, s.Equality.Index, strings.Join(s.Findings, "; "))
		}
		for _, m := range s.Members {
			if m.Applied != s.Members[0].Applied {
				return fmt.Errorf("%s has applied entry %d, %s %d", s.Members[0].Member, s.Members[0].Applied, m.Member, m.Applied)
			}
			if m.Local.Spool.Depth > 0 {
				return fmt.Errorf("the spool of %s holds %d: %s", m.Member, m.Local.Spool.Depth, m.Local.Spool.LastError)
			}
		}
	}
	return nil
}

// Events reads the whole history of a manager, the oldest first.
func (r *Rig) Events(host string) iter.Seq2[futago.Event, error] {
	return func(yield func(futago.Event, error) bool) {
		c := r.client(host, time.Minute) // an audit is no matter of seconds, whatever else runs
		defer c.Close()
		q := futago.EventQuery{Ascending: true, Limit: futago.MaxPage}
		for {
			p, err := c.Events(r.TB.Context(), q)
			if err != nil {
				yield(futago.Event{}, err)
				return
			}
			for _, e := range p.Events {
				if !yield(e, nil) {
					return
				}
				q.After = e.ID
			}
			if len(p.Events) == 0 && p.Complete {
				return
			}
		}
	}
}

// Target is where a generator sends to for a manager.
func (r *Rig) Target(host string) generate.Target {
	h := r.Lab.Host(host)
	return generate.Target{
		Member: futago.MemberID(host), SyslogUDP: h.AddrPort(514), SyslogTCP: h.AddrPort(514), SyslogTLS: h.AddrPort(6514),
		SNMP: h.AddrPort(162), CustomURL: "http://" + h.AddrPort(8082).String() + "/",
	}
}

// CA is the cluster's CA certificate.
func (r *Rig) CA() []byte {
	r.TB.Helper()
	b, err := os.ReadFile(filepath.Join(r.Path("a"), "pki", "ca.crt"))
	if err != nil {
		r.TB.Fatal(err)
	}
	return b
}

// Await tries f until it succeeds, and fails the test with its last error when
// the time is over.
func (r *Rig) Await(limit time.Duration, what string, f func() error) {
	r.TB.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	r.TB.Fatalf("%s, not in %s: %v", what, limit, err)
}

// dump shows the ends of the logs of a failed test, and keeps them whole where
// FUTAGO_RIG_LOGS names a directory.
func (r *Rig) dump() {
	keep := os.Getenv("FUTAGO_RIG_LOGS")
	for host, p := range r.procs {
		log := p.Log()
		if keep != "" {
			name := strings.ReplaceAll(r.TB.Name(), "/", "_") + "-" + host + ".log"
			if err := os.WriteFile(filepath.Join(keep, name), []byte(log), 0o600); err != nil {
				r.TB.Log(err)
			}
		}
		lines := strings.SplitAfter(log, "\n")
		r.TB.Logf("%s, the last lines:\n%s", host, strings.Join(lines[max(0, len(lines)-30):], ""))
	}
}
