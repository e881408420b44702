package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/integration/lab"
	"github.com/futago/futago/integration/rig"
)

var (
	seeds   = flag.Int("seeds", 2, "how many seeds of the main test")
	first   = flag.Int("first", 1, "the first seed")
	seconds = flag.Int("seconds", 20, "how long faults are made in each")
)

func TestMain(m *testing.M) { lab.Main[any](m) }

// pairWithin is short, so that cuts can be longer, and longer than a message over a
// connection is late on a busy machine after the longest outage of a receiver.
const pairWithin = 10 * time.Second

// rules: exact where repeats are true, window for custom traps.
func rules() map[futago.Kind]futago.DedupRule {
	exact := futago.DefaultDedupRule()
	exact.PairWithin = futago.Duration(pairWithin)
	window := futago.DefaultDedupRule()
	window.Mode, window.Window = futago.ModeWindow, futago.Duration(pairWithin)
	return map[futago.Kind]futago.DedupRule{
		futago.KindSyslog: exact, futago.KindSNMPTrap: exact, futago.KindCustomTrap: window,
	}
}

func member(host string) futago.MemberID { return futago.MemberID(host) }

func peer(host string) string { return string(member(host).Peer()) }

// The main test: numbered traps of all kinds to both managers, with true
// repeats in them, under faults in seeded random order. Afterwards every trap
// is recorded exactly as often as it occurred, both databases are equal, and
// the writes and reads of clients have one order.
func TestTrapsUnderFaults(t *testing.T) {
	for s := *first; s < *first+*seeds; s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			t.Parallel()
			length := time.Duration(*seconds) * time.Second
			x := newTrial(t, generate.Plan{
				Seed: uint64(s), Rate: 60, Duration: length + 2*time.Second, Burst: 0.2, BurstMax: 5,
				Again: 0.1, AgainAfter: 2*pairWithin + 2*time.Second, AgainSpread: 4 * time.Second,
			}, rig.Binary(t), nil)
			x.run(length, x.n.run)
			if err := x.check(90 * time.Second); err != nil {
				t.Error(err)
			}
		})
	}
}

// trial is one cluster under load and what is known about it.
type trial struct {
	t *testing.T
	r *rig.Rig
	g *generate.Generator
	n *nemesis
	h *history
}

func newTrial(t *testing.T, plan generate.Plan, binary string, env []string) *trial {
	r := rig.New(t, rig.Options{Binary: binary, Settings: rig.Settings(rules()), Lab: lab.Config{Seed: plan.Seed}, Env: env})
	rng := rand.New(rand.NewPCG(plan.Seed, 0x46757461))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.CA())
	g, err := generate.New(generate.Config{
		Plan: plan, Targets: []generate.Target{r.Target("a"), r.Target("b")}, Network: r.Lab.Host("d1"), SNMPUser: rig.SNMPUser,
		TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Run: uint32(plan.Seed),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &nemesis{r: r, rng: rng, up: &generate.Presence{}, downs: map[string]int{}, dead: map[string]time.Time{}}
	n.up.Up("a", time.Now())
	n.up.Up("b", time.Now())
	return &trial{t: t, r: r, g: g, n: n, h: newHistory(r)}
}

// run sends traps, and for some time reads and writes, while harm is done.
func (x *trial) run(length time.Duration, harm func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(x.t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	var sendErr error
	wg.Go(func() { sendErr = x.g.Run(x.t.Context()) })
	x.h.start(ctx, &wg)
	harm(ctx)
	wg.Wait()
	if sendErr != nil {
		x.t.Fatal(sendErr)
	}
}

// check returns what is wrong with a cluster that was harmed, and has time to heal.
func (x *trial) check(heal time.Duration) error {
	found := []error{x.h.check()}
	if err := x.r.Healed(heal); err != nil {
		found = append(found, err)
	} else {
		for _, host := range []string{"a", "b"} {
			found = append(found, x.audit(host))
		}
		found = append(found, sameDatabases(x.r))
	}
	err := errors.Join(found...)
	if err != nil {
		x.t.Logf("what was done:\n%s", strings.Join(x.n.log, "\n"))
	}
	return err
}

// audit compares what was sent with what a manager has recorded.
func (x *trial) audit(host string) error {
	report, err := generate.Audit(generate.AuditConfig{Presence: x.n.up, Rules: rules()}, x.g.Journal(), x.r.Events(host))
	if err != nil {
		return fmt.Errorf("history of %s: %w", host, err)
	}
	if host == "a" {
		x.t.Logf("%d traps, %d occurrences, %d recorded, %d uncertain; %d faults; client operations: %s",
			report.Traps, report.Occurrences, report.Recorded, report.Uncertain, len(x.n.log)/2, x.h.summary())
	}
	if err := report.Err(); err != nil {
		return fmt.Errorf("history of %s: %w", host, err)
	}
	return nil
}

var errDiffer = errors.New("databases differ")

// sameDatabases kills both managers and compares every row of what they left.
// A kill in the moment of a commit leaves them an entry apart; then they start
// again, which is a test too.
func sameDatabases(r *rig.Rig) error {
	for range 10 {
		for _, host := range []string{"a", "b"} {
			if err := r.Process(host).Kill9(); err != nil {
				return err
			}
		}
		a, b := r.Verify("a"), r.Verify("b")
		if a.Entry == b.Entry {
			if a.Hash != b.Hash || a.Digest != b.Digest {
				return fmt.Errorf("%w: a %+v, b %+v", errDiffer, a, b)
			}
			return nil
		}
		r.Start("a")
		r.Start("b")
		if err := r.Healed(90 * time.Second); err != nil {
			return err
		}
	}
	return errors.New("the managers were never killed at the same entry")
}
