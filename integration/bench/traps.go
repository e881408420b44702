package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/futago/futago/integration/generate"
)

// load is one stream of traps to both managers.
type load struct {
	Name    string
	Goal    string
	flavour generate.Flavour
	rate    float64 // occurrences per second
	seconds float64
	repeats float64
	port    int
	senders int // 0 is one
}

// loads are the streams of a full run.
func loads() []load {
	return []load{
		{Name: "sustained", Goal: "30,000/s, commit within 0.5 s", flavour: generate.SyslogBSD, rate: 30_000, seconds: 60, port: syslogPort},
		{Name: "burst", Goal: "50,000/s for 10 s, nothing lost", flavour: generate.SyslogBSD, rate: 50_000, seconds: 10, port: syslogPort, senders: 2},
		{Name: "storm", Goal: "100,000/s, 95 % repeats, exact", flavour: generate.SyslogBSD, rate: 100_000, seconds: 15, repeats: 0.95, port: syslogPort, senders: 2},
		{Name: "snmp-v2c", Goal: "20,000/s", flavour: generate.SNMPv2c, rate: 20_000, seconds: 20, port: snmpPort},
		{Name: "snmp-v3", Goal: "10,000/s authPriv", flavour: generate.SNMPv3, rate: 10_000, seconds: 20, port: snmpPort},
	}
}

// memberLoad is what a load did to one manager.
type memberLoad struct {
	Member string  `json:"member"`
	Leads  bool    `json:"leads"`
	Drops  int64   `json:"kernel_drops"`
	CPU    float64 `json:"cpu_cores"` // while the load ran
	Memory memory  `json:"memory_peak"`
	// Written is bytes written to disk, from the first trap to the last commit.
	Written int64 `json:"written"`
}

// loadResult is the outcome of a load.
type loadResult struct {
	Name      string  `json:"name"`
	Goal      string  `json:"goal"`
	Wanted    float64 `json:"wanted_per_second"`
	Sent      int     `json:"sent"` // occurrences, each to both managers
	Distinct  int     `json:"distinct"`
	Seconds   float64 `json:"seconds"`
	Offered   float64 `json:"offered_per_second"`
	Committed float64 `json:"committed_per_second"` // occurrences from the first sent to the last committed on both
	// Drain is the time from the last datagram sent to its commit on both managers.
	Drain float64 `json:"drain_seconds"`
	// Lag is the age of the newest event of the slower database while the load ran.
	LagMedian float64 `json:"lag_median_seconds"`
	LagMax    float64 `json:"lag_max_seconds"`
	// Missing and Excess are occurrences, by the audit of both databases.
	Missing  uint64       `json:"missing"`
	Excess   uint64       `json:"excess"`
	Audited  bool         `json:"audited"`
	Findings []string     `json:"findings,omitempty"`
	Members  []memberLoad `json:"members"`
	Sender   float64      `json:"sender_cpu_cores"`
	Witness  memory       `json:"witness_memory_peak"`
	Busy     float64      `json:"machine_busy"` // share of all processor time
	Load     float64      `json:"load_average_before"`
	Problem  string       `json:"problem,omitempty"`

	blast       *generate.BlastResult
	first, next uint64 // event ids that the load made
}

// A load counts as stuck when the databases make no progress for stallLimit, or
// are not done after drainLimit.
const (
	stallLimit = 15 * time.Second
	drainLimit = 2 * time.Minute
)

// runLoad sends a load and waits until everything is committed on both managers.
func (c *testCluster) runLoad(ctx context.Context, l load, run uint32) (*loadResult, error) {
	dbs, err := openDatabases(c)
	if err != nil {
		return nil, err
	}
	defer dbs.close()
	before, err := dbs.read(ctx)
	if err != nil {
		return nil, err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return nil, err
	}
	r := &loadResult{Name: l.Name, Goal: l.Goal, Wanted: l.rate, Load: loadAverage(), first: uint64(before[0].next)}
	for _, n := range c.nodes {
		n.proc.takePeak()
		r.Members = append(r.Members, memberLoad{
			Member: string(n.member), Leads: n == leader, Drops: -udpDrops(n.host, l.port), CPU: -cpu(n.proc.cmd.Process.Pid).Seconds(),
			Written: -written(n.proc.cmd.Process.Pid),
		})
	}
	c.witness.takePeak()
	r.Sender = -selfCPU().Seconds()
	busy0, all0 := cpuTicks()

	b := generate.Blast{
		Flavour: l.flavour, Targets: c.targets(), Run: run, Rate: l.rate, Count: int(l.rate * l.seconds),
		Duration: time.Duration(2 * l.seconds * float64(time.Second)), // a slow machine must not run for ever
		Repeats:  l.repeats, Seed: uint64(run), Senders: l.senders, Host: "bench", SNMPUser: benchUser(),
	}
	type sent struct {
		r   *generate.BlastResult
		err error
	}
	start := time.Now()
	ch := make(chan sent, 1)
	go func() {
		res, err := b.Send(ctx)
		ch <- sent{res, err}
	}()
	var lags []time.Duration
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for r.blast == nil {
		select {
		case s := <-ch:
			if s.err != nil {
				return nil, s.err
			}
			r.blast = s.r
		case <-tick.C:
			now, err := dbs.read(ctx)
			if err != nil {
				return nil, err
			}
			oldest := now[0].newest
			for _, s := range now[1:] {
				if s.newest.Before(oldest) {
					oldest = s.newest
				}
			}
			if oldest.After(start) {
				lags = append(lags, time.Since(oldest))
			}
		}
	}
	for i, n := range c.nodes {
		r.Members[i].CPU = (r.Members[i].CPU + cpu(n.proc.cmd.Process.Pid).Seconds()) / r.blast.Elapsed.Seconds()
	}
	r.Sender = (r.Sender + selfCPU().Seconds()) / r.blast.Elapsed.Seconds()
	busy1, all1 := cpuTicks()
	r.Busy = float64(busy1-busy0) / float64(max(all1-all0, 1))
	r.Sent, r.Distinct, r.Seconds = r.blast.Occurrences, r.blast.Distinct(), r.blast.Elapsed.Seconds()
	r.Offered = float64(r.Sent) / r.Seconds
	slices.Sort(lags)
	if len(lags) > 0 {
		r.LagMedian, r.LagMax = lags[len(lags)/2].Seconds(), lags[len(lags)-1].Seconds()
	}
	last, err := c.settle(ctx, dbs, before, r)
	if err != nil {
		r.Problem = err.Error()
	}
	r.next = uint64(last[0].next)
	done := time.Now()
	r.Drain = done.Sub(r.blast.Last).Seconds()
	r.Committed = float64(least(last, before)) / done.Sub(start).Seconds()
	for i, n := range c.nodes {
		r.Members[i].Drops += udpDrops(n.host, l.port)
		r.Members[i].Written += written(n.proc.cmd.Process.Pid)
		r.Members[i].Memory = n.proc.takePeak()
		if n.proc.ended() {
			r.Problem = fmt.Sprintf("manager %s has ended", n.member)
		}
	}
	r.Witness = c.witness.takePeak()
	if now, err := c.leader(ctx); err != nil || now != leader {
		r.Problem += " leadership changed"
	}
	return r, nil
}

// settle waits until all that was sent, less what the kernel dropped, is applied on both.
func (c *testCluster) settle(ctx context.Context, dbs databases, before []state, r *loadResult) ([]state, error) {
	progress, moved := int64(-1), time.Now()
	for {
		now, err := dbs.read(ctx)
		if err != nil {
			return before, err
		}
		n := least(now, before)
		if n >= int64(r.Sent) {
			return now, nil
		}
		if n > progress {
			progress, moved = n, time.Now()
		}
		if time.Since(moved) > stallLimit || time.Since(r.blast.Last) > drainLimit {
			return now, fmt.Errorf("%d of %d applied on both, and no more came", n, r.Sent)
		}
		select {
		case <-ctx.Done():
			return now, errors.Join(ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}
