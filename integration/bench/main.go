// Command bench measures the product as it runs: processes of bin/futago on
// this machine, traps over real sockets, and a peer that does a like job. See
// docs/benchmarks.md for what the numbers mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	_ "net/http/pprof" // for member mode
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/manager"
)

// options are what the command line says.
type options struct {
	bin, dir, out, doc string
	suites, loads      string
	profile            string
	rate, seconds      float64
	events             int
	keep               bool
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin/futago", "the product")
	flag.StringVar(&o.dir, "dir", "build/bench/data", "where clusters are made; removed at the end")
	flag.StringVar(&o.out, "out", "build/bench", "where results go, as JSON")
	flag.StringVar(&o.doc, "doc", "", "document whose tables are written, such as docs/benchmarks.md")
	flag.StringVar(&o.suites, "suites", "traps,writes,peer,history", "what to measure")
	flag.StringVar(&o.loads, "loads", "", "loads of suite traps, by name; all when empty")
	flag.StringVar(&o.profile, "profile", "", "run the managers inside this program and write their profiles into this directory")
	flag.Float64Var(&o.rate, "rate", 0, "traps per second, in place of each load's own")
	flag.Float64Var(&o.seconds, "seconds", 0, "length of a load, in place of each load's own")
	flag.IntVar(&o.events, "events", 10_000_000, "length of the long history; a hundredth is the short one")
	flag.BoolVar(&o.keep, "keep", false, "leave the clusters' directories")
	config := flag.String("member", "", "internal: run a manager with this configuration")
	pprofAddr := flag.String("pprof", "", "internal: serve profiles of it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *config != "" {
		err = runMember(ctx, *config, *pprofAddr)
	} else {
		err = run(ctx, &o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// runMember is a manager as bin/futago runs it, with profiles.
func runMember(ctx context.Context, config, addr string) error {
	go func() { _ = http.ListenAndServe(addr, nil) }() //nolint:gosec // on loopback, for this program
	cfg, err := manager.LoadConfig(config)
	if err != nil {
		return err
	}
	manager.LimitMemory()
	m, err := manager.New(ctx, manager.Options{Config: cfg, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	return errors.Join(m.Run(ctx), m.Close())
}

func run(ctx context.Context, o *options) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if !o.keep {
		defer os.RemoveAll(o.dir)
	}
	var errs []error
	for _, s := range []struct {
		name string
		run  func(context.Context, *options) error
	}{
		{"traps", suiteTraps},
		{"writes", func(ctx context.Context, o *options) error {
			r, err := runWrites(ctx, o)
			return errors.Join(err, saveAny(ctx, o, "writes", r, len(r) > 0))
		}},
		{"peer", func(ctx context.Context, o *options) error {
			r, err := runPeer(ctx, o)
			return errors.Join(err, saveAny(ctx, o, "peer", r, err == nil))
		}},
		{"history", suiteHistory},
	} {
		if !among(s.name, o.suites) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s (load average %.1f)\n", s.name, loadAverage())
		if err := s.run(ctx, o); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	if o.doc != "" {
		errs = append(errs, render(o))
	}
	return errors.Join(errs...)
}

func saveAny[T any](ctx context.Context, o *options, name string, r T, there bool) error {
	if !there {
		return nil
	}
	return save(ctx, o, name, r)
}

func among(name, list string) bool { return slices.Contains(strings.Split(list, ","), name) }

// suiteTraps runs the loads one after the other on one cluster, and then
// compares what was sent with both databases.
func suiteTraps(ctx context.Context, o *options) error {
	c, err := newCluster(ctx, o, filepath.Join(o.dir, "cluster"))
	if err != nil {
		return err
	}
	defer c.stop()
	if err := c.putSNMPUser(ctx); err != nil {
		return err
	}
	var results []*loadResult
	for i, l := range loads() {
		if o.loads != "" && !among(l.Name, o.loads) {
			continue
		}
		if o.rate > 0 {
			l.rate = o.rate
		}
		if o.seconds > 0 {
			l.seconds = o.seconds
		}
		profiled := make(chan struct{})
		go func() {
			defer close(profiled)
			if o.profile != "" {
				c.profileAll(ctx, o.profile, l)
			}
		}()
		r, err := c.runLoad(ctx, l, uint32(i+1))
		<-profiled
		if err != nil {
			return errors.Join(err, saveAny(ctx, o, "traps", results, len(results) > 0))
		}
		fmt.Fprintf(os.Stderr, "bench: %-9s offered %.0f/s, committed %.0f/s, last commit after %.2f s, %s\n",
			r.Name, r.Offered, r.Committed, r.Drain, r.Problem)
		results = append(results, r)
	}
	c.stop()
	err = c.audit(ctx, results)
	for _, r := range results {
		if r.Missing > 0 || r.Excess > 0 {
			err = errors.Join(err, fmt.Errorf("load %s: %d missing, %d too many: %v", r.Name, r.Missing, r.Excess, r.Findings))
		}
	}
	return errors.Join(err, saveAny(ctx, o, "traps", results, len(results) > 0))
}

func suiteHistory(ctx context.Context, o *options) error {
	var results []*historyResult
	for _, n := range []int{o.events / 100, o.events} {
		r, err := runHistory(ctx, o, n)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	return save(ctx, o, "history", results)
}

// profileAll fetches the profiles of both managers while a load runs.
func (c *testCluster) profileAll(ctx context.Context, dir string, l load) {
	_ = os.MkdirAll(dir, 0o755)
	time.Sleep(2 * time.Second)
	done := make(chan struct{})
	for _, n := range c.nodes {
		go func() {
			n.profile(ctx, dir, l)
			done <- struct{}{}
		}()
	}
	for range c.nodes {
		<-done
	}
}

func (n *node) profile(ctx context.Context, dir string, l load) {
	for _, p := range []string{fmt.Sprintf("profile?seconds=%d", max(1, int(l.seconds)-4)), "allocs", "heap"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.host+":16060/debug/pprof/"+p, nil)
		if err != nil {
			continue
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		kind, _, _ := strings.Cut(p, "?")
		if f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%s.%s", l.Name, n.member, kind))); err == nil {
			_, _ = f.ReadFrom(res.Body)
			f.Close()
		}
		res.Body.Close()
	}
}

func benchUser() generate.SNMPUser {
	return generate.SNMPUser{Name: "bench", Auth: "SHA-256", AuthPass: "authpassword", PrivPass: "privpassword"}
}
