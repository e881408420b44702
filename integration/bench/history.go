package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/intake/syslog"
	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store"
	"github.com/futago/futago/store/search"
)

// pageResult is how long a page of events took, asked of a manager's API.
type pageResult struct {
	Name   string  `json:"name"`
	First  float64 `json:"first_ms"` // with caches as they are after a start
	Median float64 `json:"median_ms"`
	Max    float64 `json:"max_ms"`
	Events int     `json:"events"`
	Whole  bool    `json:"complete"`
}

// historyResult is what a long history costs.
type historyResult struct {
	Events        int          `json:"events"`
	DatabaseBytes int64        `json:"database_bytes"`
	IndexBytes    int64        `json:"index_bytes"`
	FillSeconds   float64      `json:"fill_seconds"`
	IndexSeconds  float64      `json:"index_seconds"`
	Snapshot      float64      `json:"snapshot_ms"`    // of a member under writes
	Restart       float64      `json:"restart_ms"`     // kill -9 of the standby to its taking part, median
	FirstStart    float64      `json:"first_start_ms"` // with nothing of the files in the page cache of this process
	LeaderBack    float64      `json:"leader_back_ms"` // the same of the one that led
	Pages         []pageResult `json:"pages"`
	Memory        memory       `json:"memory_peak"`
	Load          float64      `json:"load_average_before"`
}

// runHistory measures with a history of that many events in both databases.
func runHistory(ctx context.Context, o *options, events int) (_ *historyResult, err error) {
	r := &historyResult{Events: events, Load: loadAverage()}
	c, err := newCluster(ctx, o, filepath.Join(o.dir, "history"))
	if err != nil {
		return nil, err
	}
	defer func() { c.stop() }()
	// A first trap, so that everything a database holds beside events is there.
	if _, err := c.runLoad(ctx, load{Name: "first", flavour: generate.SyslogBSD, rate: 1000, seconds: 1, port: syslogPort}, 1); err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		n.proc.stop(syscall.SIGTERM)
	}
	a, b := c.nodes[0], c.nodes[1]
	if err := r.fill(ctx, a.dir, events); err != nil {
		return nil, err
	}
	for _, f := range []string{"state.db", "search.db"} {
		if err := copyFile(filepath.Join(a.dir, f), filepath.Join(b.dir, f)); err != nil {
			return nil, err
		}
	}
	// The one that was stopped last may lead without the other one.
	if r.Snapshot, err = measureSnapshot(ctx, b.dir, b.member); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if err := c.measureRestarts(ctx, r); err != nil {
		return nil, err
	}
	a.proc.takePeak()
	if err := r.measurePages(ctx, a); err != nil {
		return nil, err
	}
	time.Sleep(200 * time.Millisecond) // one more look at its memory
	r.Memory = a.proc.takePeak()
	return r, nil
}

// lineMaker makes messages like those of a site with a thousand devices. Words
// follow a steep distribution; "uncorrectable" is in ten messages of all.
type lineMaker struct {
	rng   *rand.Rand
	zipf  *rand.Zipf
	total int
}

func newLineMaker(total int) *lineMaker {
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // not for security
	return &lineMaker{rng: rng, zipf: rand.NewZipf(rng, 1.2, 8, 20_000), total: total}
}

func (m *lineMaker) line(i int, at time.Time) (src netip.AddrPort, raw []byte) {
	dev := m.rng.IntN(1000)
	sev := 6
	switch n := m.rng.IntN(1000); {
	case n < 2:
		sev = 2
	case n < 50:
		sev = 3
	case n < 300:
		sev = 4
	}
	raw = fmt.Appendf(nil, "<%d>%s dev%03d daemon[%d]: ", 16*8+sev, at.Format(time.Stamp), dev, 100+dev)
	if m.rng.IntN(2) == 0 {
		raw = append(raw, "interface "...)
	}
	for range 4 + m.rng.IntN(8) {
		raw = fmt.Appendf(raw, "word%d ", m.zipf.Uint64())
	}
	if i%(m.total/10) == m.total/20 {
		raw = append(raw, "uncorrectable "...)
	}
	raw = fmt.Appendf(raw, "serial %d", i)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(dev / 250), byte(dev % 250)}), 514), raw
}

// fill puts events in front of what the database holds: as if they had been
// recorded at a few per second until now. The log's position stays as it is, and
// nothing of them is open for the de-duplication.
func (r *historyResult) fill(ctx context.Context, dir string, events int) error {
	start := time.Now()
	st, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "state.db")})
	if err != nil {
		return err
	}
	defer st.Close()
	applied, err := st.Applied(ctx)
	if err != nil {
		return err
	}
	m := newLineMaker(events)
	settings := &futago.IntakeSettings{}
	end := time.Now()
	const perTx = 20_000
	for done := 0; done < events; {
		tx, err := st.Begin(ctx)
		if err != nil {
			return err
		}
		for range min(perTx, events-done) {
			at := end.Add(-time.Duration(events-done) * 200 * time.Millisecond)
			src, raw := m.line(done, at)
			rec := futago.Received{Kind: futago.KindSyslog, Transport: futago.TransportUDP, Source: src, At: at.UnixNano(), Raw: raw}
			trap, key := syslog.Decode(&rec, settings)
			row := [1]store.EventRow{{
				ID: applied.NextEvent, At: rec.At, Kind: rec.Kind, Severity: trap.Severity, Source: src.Addr(), Key: key,
				Reason: futago.ReasonPaired, Count: [2]uint64{1, 1}, First: [2]int64{rec.At, rec.At}, Last: [2]int64{rec.At, rec.At},
				Trap: command.AppendTrap(nil, &trap),
			}}
			if err := tx.InsertEvents(row[:]); err != nil {
				tx.Rollback()
				return err
			}
			applied.NextEvent++
			done++
		}
		applied.Horizon = applied.NextEvent
		if err := tx.Commit(applied); err != nil {
			return err
		}
	}
	r.FillSeconds = time.Since(start).Seconds()
	if err := r.index(ctx, st, dir); err != nil {
		return err
	}
	if err := st.Checkpoint(ctx); err != nil {
		return err
	}
	r.DatabaseBytes, r.IndexBytes = sizeOf(filepath.Join(dir, "state.db")), sizeOf(filepath.Join(dir, "search.db"))
	return nil
}

// index builds the search index at once, which a manager does beside its work.
func (r *historyResult) index(ctx context.Context, st *store.Store, dir string) error {
	start := time.Now()
	x, err := search.Open(ctx, search.Options{Path: filepath.Join(dir, "search.db"), Store: st, Rate: math.MaxInt32})
	if err != nil {
		return err
	}
	newest, err := st.NewestEvent(ctx)
	if err != nil {
		return errors.Join(err, x.Close())
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- x.Run(running) }()
	for x.Indexed() < newest && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	err = <-done
	r.IndexSeconds = time.Since(start).Seconds()
	return errors.Join(err, x.Close())
}

func sizeOf(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// measureSnapshot takes snapshots of a member that is writing, and returns the
// median of their times in milliseconds.
func measureSnapshot(ctx context.Context, dir string, id futago.MemberID) (_ float64, err error) {
	m, err := openMember(ctx, dir, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := eventually(ctx, 30*time.Second, func() error {
		if !m.node.Acting() {
			return errors.New("it does not lead")
		}
		return nil
	}); err != nil {
		return 0, err
	}
	var took []float64
	lines := newLineMaker(1 << 20)
	next := uint64(1)
	for range 5 {
		for range 20 {
			b := &command.TrapBatch{
				Member: id, Spool: command.ID{9}, First: next, Watermark: time.Now().UnixNano(), ProposedAt: time.Now().UnixNano(),
			}
			for i := range 1000 {
				src, raw := lines.line(i+1, time.Now())
				rec := futago.Received{Kind: futago.KindSyslog, Transport: futago.TransportUDP, Source: src, At: time.Now().UnixNano(), Raw: fmt.Appendf(raw, " %d", next)}
				trap, key := syslog.Decode(&rec, &futago.IntakeSettings{})
				b.Bodies = append(b.Bodies, command.Body{
					Key: key, Kind: rec.Kind, Source: src.Addr(), Severity: trap.Severity, Trap: command.AppendTrap(nil, &trap),
				})
				b.Copies = append(b.Copies, command.Copy{Body: uint32(i), At: rec.At})
				next++
			}
			if _, err := m.node.SubmitBatch(ctx, b).Wait(ctx); err != nil {
				return 0, err
			}
		}
		start := time.Now()
		// What a snapshot does, but for a small file with its index.
		if err := m.store.Checkpoint(ctx); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// measureRestarts starts both managers on the long history, then kills and
// starts one after the other.
func (c *testCluster) measureRestarts(ctx context.Context, r *historyResult) error {
	start := time.Now()
	for _, n := range c.nodes {
		if err := c.start(ctx, n); err != nil {
			return err
		}
	}
	if err := c.awaitFull(ctx, 2*time.Minute); err != nil {
		return err
	}
	r.FirstStart = float64(time.Since(start).Milliseconds())
	restart := func(pick func(leader *node) *node) (float64, error) {
		leader, err := c.leader(ctx)
		if err != nil {
			return 0, err
		}
		n := pick(leader)
		n.proc.stop(syscall.SIGKILL)
		start := time.Now()
		if err := c.start(ctx, n); err != nil {
			return 0, err
		}
		if err := n.awaitPart(ctx); err != nil {
			return 0, fmt.Errorf("restart of %s: %w", n.member, err)
		}
		took := float64(time.Since(start).Milliseconds())
		return took, c.awaitFull(ctx, time.Minute)
	}
	other := func(leader *node) *node {
		if leader == c.nodes[0] {
			return c.nodes[1]
		}
		return c.nodes[0]
	}
	var took []float64
	for range 3 {
		ms, err := restart(other)
		if err != nil {
			return err
		}
		took = append(took, ms)
	}
	slices.Sort(took)
	r.Restart = took[1]
	var err error
	r.LeaderBack, err = restart(func(leader *node) *node { return leader })
	return err
}

// awaitPart waits until a manager has applied what it knows committed, and
// knows who leads.
func (n *node) awaitPart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := n.api()
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		s, err := c.Status(ctx)
		if err == nil && s.Leader != "" {
			for _, m := range s.Members {
				if m.Member == n.member && m.Local.State == "running" && m.Applied > 0 && m.Applied >= m.Commit {
					return nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("it does not take part"), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// measurePages asks for pages as a person at the console would.
func (r *historyResult) measurePages(ctx context.Context, n *node) error {
	api, err := n.api()
	if err != nil {
		return err
	}
	defer api.Close()
	// The index runs after what was recorded last; until then a page looks at
	// every row of that. A word that does not occur shows when it is done.
	if err := eventually(ctx, time.Minute, func() error {
		p, err := measurePage(ctx, api, "", futago.EventQuery{Text: "nowhere"})
		if err == nil && p.Median > 15 {
			err = errors.New("the search index is behind")
		}
		return err
	}); err != nil {
		fmt.Fprintln(os.Stderr, "bench: measuring pages all the same:", err)
	}
	sev := futago.Severity(2)
	now := time.Now()
	old := now.Add(-time.Duration(r.Events) * 100 * time.Millisecond) // the middle of the history
	for _, q := range []struct {
		name  string
		query futago.EventQuery
	}{
		{"newest", futago.EventQuery{}},
		{"in the middle, by cursor", futago.EventQuery{Before: uint64(r.Events / 2)}},
		{"an hour in the middle", futago.EventQuery{From: old, To: old.Add(time.Hour)}},
		{"rare word (10 events)", futago.EventQuery{Text: "uncorrectable"}},
		{"common word (half of all)", futago.EventQuery{Text: "interface"}},
		{"two words", futago.EventQuery{Text: "interface word3000"}},
		{"beginning of a word", futago.EventQuery{Text: "uncorr*"}},
		{"a word that does not occur", futago.EventQuery{Text: "nowhere"}},
		{"one of 1,000 hosts", futago.EventQuery{Host: "dev777"}},
		{"one source address", futago.EventQuery{Source: netip.MustParsePrefix("10.1.3.7/32")}},
		{"severity critical (0.2 %)", futago.EventQuery{MaxSeverity: &sev}},
		{"critical, one host, one word", futago.EventQuery{MaxSeverity: &sev, Host: "dev777", Text: "interface"}},
		{"kind that does not occur", futago.EventQuery{Kinds: []futago.Kind{futago.KindCustomTrap}}},
	} {
		p, err := measurePage(ctx, api, q.name, q.query)
		if err != nil {
			return fmt.Errorf("page %q: %w", q.name, err)
		}
		r.Pages = append(r.Pages, p)
	}
	return nil
}

func measurePage(ctx context.Context, api *client.Client, name string, q futago.EventQuery) (pageResult, error) {
	r := pageResult{Name: name}
	var took []float64
	for range 15 {
		start := time.Now()
		p, err := api.Events(ctx, q)
		if err != nil {
			return r, err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
		r.Events, r.Whole = len(p.Events), p.Complete
	}
	r.First = took[0]
	slices.Sort(took)
	r.Median, r.Max = took[len(took)/2], took[len(took)-1]
	return r, nil
}
