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

// pairWithin is short, so that cuts can be longer.
const pairWithin = 6 * time.Second

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
			if err := trapsUnderFaults(t, s, rig.Binary(t), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// trapsUnderFaults returns what the checks found.
func trapsUnderFaults(t *testing.T, seed int, binary string, env []string) error {
	r := rig.New(t, rig.Options{Binary: binary, Settings: rig.Settings(rules()), Lab: lab.Config{Seed: uint64(seed)}, Env: env})
	rng := rand.New(rand.NewPCG(uint64(seed), 0x46757461))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.CA())
	length := time.Duration(*seconds) * time.Second
	g, err := generate.New(generate.Config{
		Plan: generate.Plan{
			Seed: uint64(seed), Rate: 60, Duration: length + 2*time.Second, Burst: 0.2, BurstMax: 5,
			Again: 0.1, AgainAfter: 2*pairWithin + 2*time.Second, AgainSpread: 4 * time.Second,
		},
		Targets: []generate.Target{r.Target("a"), r.Target("b")}, Network: r.Lab.Host("d1"), SNMPUser: rig.SNMPUser,
		TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Run: uint32(seed),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &nemesis{r: r, rng: rng, up: &generate.Presence{}}
	n.up.Up("a", time.Now())
	n.up.Up("b", time.Now())
	h := newHistory(r)

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	var sendErr error
	wg.Go(func() { sendErr = g.Run(t.Context()) })
	h.start(ctx, &wg)
	n.run(ctx)
	wg.Wait()
	if sendErr != nil {
		t.Fatal(sendErr)
	}
	r.AwaitFull(90 * time.Second)

	var found []error
	for _, host := range []string{"a", "b"} {
		report, err := generate.Audit(generate.AuditConfig{Presence: n.up, Rules: rules()}, g.Journal(), r.Events(host))
		if err != nil {
			t.Fatal(err)
		}
		if err := report.Err(); err != nil {
			found = append(found, fmt.Errorf("history of %s: %w", host, err))
		}
		if host == "a" {
			t.Logf("seed %d: %d traps, %d occurrences, %d recorded, %d uncertain; %d faults; client operations: %s",
				seed, report.Traps, report.Occurrences, report.Recorded, report.Uncertain, len(n.log)/2, h.summary())
		}
	}
	found = append(found, h.check(), sameDatabases(r))
	err = errors.Join(found...)
	if err != nil {
		t.Logf("what was done:\n%s", strings.Join(n.log, "\n"))
	}
	return err
}

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
				return fmt.Errorf("databases differ: a %+v, b %+v", a, b)
			}
			return nil
		}
		r.Start("a")
		r.Start("b")
		r.AwaitFull(90 * time.Second)
	}
	return errors.New("the managers were never killed at the same entry")
}
