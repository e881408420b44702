package forward

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/spool"
	"github.com/futago/futago/raftfsm/command"
)

func TestForward_AllOnceInOrder(t *testing.T) {
	s := openSpool(t, memDir(t))
	m := newMachine()
	l := newLog(m, 1, false)
	defer l.stop()
	appendTo(t, s, recs(1, 5000))
	f, stop := start(t, options(s, l))
	defer stop()
	for i := 5000; i < 10000; i += 100 {
		appendTo(t, s, recs(i+1, i+100))
	}
	if err := s.WaitAcked(t.Context(), 10000); err != nil {
		t.Fatal(err)
	}
	m.want(t, 10000)
	st := f.Status()
	if st.Gaps+st.Conflicts+st.NeedBodies+st.Unavailable != 0 || st.LastError != nil || st.Lag != 0 {
		t.Errorf("status %+v", st)
	}
}

// Faults of every sort at once: refusals, lost batches, lost answers, batches
// that come into the log long after, missing bodies, restarts of the manager
// with and without its last acknowledgement.
func TestForward_ExactlyOnce(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := memDir(t)
			m := newMachine()
			l := newLog(m, uint64(seed), true)
			defer l.stop()
			l.blank = 0.0005
			n := 0
			for round := range 5 {
				s := openSpool(t, dir)
				if int(s.Last()) != n {
					t.Fatalf("round %d: last %d, want %d", round, s.Last(), n)
				}
				o := options(s, l)
				o.MaxCopies = 97
				o.Timeout = 50 * time.Millisecond
				f, stop := start(t, o)
				for range 40 {
					appendTo(t, s, recs(n+1, n+57))
					n += 57
					if n%3 == 0 {
						f.Kick()
					}
				}
				last := round == 4
				if last {
					l.mu.Lock()
					l.faults, l.blank, l.refuse = false, 0, 0
					l.mu.Unlock()
				}
				poll(t, "some progress", func() bool {
					return m.count() >= n*(round+1)/8 && (!last || s.Acked() == uint64(n))
				})
				stop()
				saved, err := os.ReadFile(filepath.Join(dir, "acked"))
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if seed%2 == 0 { // as if killed
					if err := os.WriteFile(filepath.Join(dir, "acked"), saved, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if !last {
					m.want(t, m.count())
				}
			}
			m.want(t, n)
		})
	}
}

// An older identity's records that are sent again although the state machine
// has seen the next identity are taken as applied.
func TestForward_StaleOlderIdentity(t *testing.T) {
	dir := memDir(t)
	m := newMachine()
	l := newLog(m, 1, false)
	defer l.stop()
	for round := range 3 {
		s := openSpool(t, dir)
		_, stop := start(t, options(s, l))
		appendTo(t, s, recs(round*10+1, round*10+10))
		if err := s.WaitAcked(t.Context(), uint64(round*10+10)); err != nil {
			t.Fatal(err)
		}
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "acked")); err != nil {
			t.Fatal(err)
		}
	}
	m.want(t, 30)
}

// A power failure, or a machine set back to an older disk, takes records away
// that the log has. What is received afterwards must not be taken for them.
func TestForward_DirectorySetBack(t *testing.T) {
	dir := memDir(t)
	m := newMachine()
	l := newLog(m, 1, false)
	defer l.stop()
	s := openSpool(t, dir)
	_, stop := start(t, options(s, l))
	appendTo(t, s, recs(1, 50))
	if err := s.WaitAcked(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	kept := memDir(t)
	if err := os.CopyFS(filepath.Join(kept, "spool"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, recs(51, 100))
	if err := s.WaitAcked(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSpool(t, filepath.Join(kept, "spool"))
	_, stop = start(t, options(s, l))
	defer stop()
	if s.Last() != 50 {
		t.Fatalf("last %d", s.Last())
	}
	appendTo(t, s, recs(101, 160))
	if err := s.WaitAcked(t.Context(), s.Last()); err != nil {
		t.Fatal(err)
	}
	m.want(t, 160)
}

func TestForward_Conflict(t *testing.T) {
	s := openSpool(t, memDir(t))
	m := newMachine()
	l := newLog(m, 1, false)
	defer l.stop()
	appendTo(t, s, recs(1, 10))
	m.applied[s.ID()] = 3 // and then somebody else's spool came
	m.replaced[s.ID()] = true
	m.traps = []string{string(rec(1).Raw), string(rec(2).Raw), string(rec(3).Raw)}
	o := options(s, l)
	reports := make(chan string, 10)
	o.Report = func(_ context.Context, topic string, _ futago.Severity, msg string) { reports <- topic + ": " + msg }
	old := s.ID()
	if err := s.Ack(3); err != nil {
		t.Fatal(err)
	}
	f, stop := start(t, o)
	defer stop()
	if err := s.WaitAcked(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	m.want(t, 10)
	if s.ID() == old {
		t.Error("the identity is the same")
	}
	if r := <-reports; !strings.HasPrefix(r, "spool-conflict: ") || !strings.Contains(r, old.String()) {
		t.Errorf("report %q", r)
	}
	if f.Status().Conflicts != 1 {
		t.Errorf("status %+v", f.Status())
	}
}

// A cluster that was restored from a backup knows less than it had confirmed.
func TestForward_ClusterSetBack(t *testing.T) {
	s := openSpool(t, memDir(t))
	m := newMachine()
	l := newLog(m, 1, false)
	defer l.stop()
	_, stop := start(t, options(s, l))
	defer stop()
	appendTo(t, s, recs(1, 10))
	if err := s.WaitAcked(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.applied[s.ID()] = 4
	m.traps = m.traps[:4]
	m.mu.Unlock()
	appendTo(t, s, recs(11, 20))
	if err := s.WaitAcked(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	if m.count() != 14 {
		t.Errorf("%d records, want 4 and 10", m.count())
	}
}

// damage flips a byte in the middle of every file that holds part of one of the records.
func damage(t *testing.T, dir string, recs ...int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range recs {
		done := false
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			i := strings.Index(string(b), string(rec(n).Raw))
			if i < 0 {
				continue
			}
			b[i] ^= 1
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			done = true
			break
		}
		if !done {
			t.Fatalf("record %d is in no file", n)
		}
	}
}

func TestForward_Damage(t *testing.T) {
	for name, tt := range map[string]struct {
		applied int // by the state machine, unknown to the spool
		hit     []int
		missing [][2]int
	}{
		"middle, not applied":         {0, []int{150}, [][2]int{{141, 150}}},
		"middle, applied before":      {170, []int{150}, nil},
		"middle, applied in part":     {145, []int{150}, [][2]int{{146, 150}}},
		"first":                       {0, []int{110}, [][2]int{{101, 110}}},
		"end of an identity":          {0, []int{200}, [][2]int{{191, 200}}},
		"end of an identity, applied": {200, []int{200}, nil},
		"start of an identity":        {0, []int{210}, [][2]int{{201, 210}}},
		"both sides of the boundary":  {0, []int{200, 210}, [][2]int{{191, 200}, {201, 210}}},
		"two holes":                   {0, []int{130, 170}, [][2]int{{121, 130}, {161, 170}}},
		"first of the next, applied":  {205, []int{210}, [][2]int{{206, 210}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := memDir(t)
			m := newMachine()
			l := newLog(m, 1, false)
			defer l.stop()
			// Records 101 to 300 under two identities, in blocks of ten.
			for part := range 2 {
				s := openSpool(t, dir)
				for i := 0; i < 100; i += 10 {
					appendTo(t, s, recs(101+part*100+i, 110+part*100+i))
				}
				id := s.ID()
				if got := min(max(tt.applied-100-part*100, 0), 100); got > 0 {
					if !m.current.IsZero() {
						m.replaced[m.current] = true
					}
					m.current = id
					m.applied[id] = uint64(got)
					for i := range got {
						m.traps = append(m.traps, string(rec(101+part*100+i).Raw))
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			damage(t, dir, tt.hit...)
			s := openSpool(t, dir)
			f, stop := start(t, options(s, l))
			defer stop()
			appendTo(t, s, recs(301, 310))
			poll(t, "everything acknowledged", func() bool { return s.Acked() == 210 })
			var want []string
			lost := uint64(0)
			for n := 101; n <= 310; n++ {
				gone := false
				for _, r := range tt.missing {
					gone = gone || n >= r[0] && n <= r[1]
				}
				if gone {
					lost++
					continue
				}
				want = append(want, string(rec(n).Raw))
			}
			m.mu.Lock()
			got := append([]string(nil), m.traps...)
			m.mu.Unlock()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("applied %d records, want %d:\n%q", len(got), len(want), got)
			}
			if st := s.Status(); st.Lost != lost {
				t.Errorf("lost %d, want %d (%v)", st.Lost, lost, f.Status().LastError)
			}
		})
	}
}

// Damage in what this process wrote itself, up to the newest record.
func TestForward_DamageAtTheEnd(t *testing.T) {
	dir := memDir(t)
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := newMachine()
	l := newLog(m, 1, false)
	defer l.stop()
	big := make([]byte, 900<<10) // so that the first ones are not in memory any more
	for i := 0; i < 40; i += 10 {
		appendTo(t, s, recs(i+1, i+10))
	}
	for range 10 {
		appendTo(t, s, []futago.Received{{Kind: futago.KindSyslog, Raw: big, At: 1}})
	}
	damage(t, dir, 15)
	errs := make(chan error, 1)
	go func() { errs <- s.WaitAcked(context.Background(), 15) }()
	_, stop := start(t, options(s, l))
	defer stop()
	if err := <-errs; futago.CodeOf(err) != futago.CodeCorrupt {
		t.Errorf("waiting for a lost record: %v", err)
	}
	if err := s.WaitAcked(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	if n := m.count(); n != 40 {
		t.Errorf("%d applied, want 40", n)
	}
	if lost := s.Status().Lost; lost != 10 {
		t.Errorf("lost %d, want 10", lost)
	}
}

func TestForward_Heartbeat(t *testing.T) {
	dir := memDir(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := spool.Open(spool.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m := newMachine()
		l := newLog(m, 1, false)
		defer l.stop()
		_, stop := start(t, options(s, l))
		defer stop()
		p := s.Producer("udp", true)
		begin := time.Now()
		for range 600 {
			p.Idle(time.Now())
			time.Sleep(100 * time.Millisecond)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.empty < 25 || m.empty > 61 {
			t.Errorf("%d empty batches in a minute", m.empty)
		}
		if got := time.Unix(0, m.watermark).Sub(begin); got < 57*time.Second {
			t.Errorf("the watermark is at %v of 60 s", got)
		}
		if len(m.traps) != 0 || len(m.errs) != 0 {
			t.Error(m.traps, m.errs)
		}
	})
}

// With nothing under way a record is sent at once; while something is, records
// gather for the linger time at most.
func TestForward_Linger(t *testing.T) {
	dir := memDir(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := spool.Open(spool.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m := newMachine()
		l := newLog(m, 1, false)
		l.latency = 5 * time.Millisecond
		defer l.stop()
		o := options(s, l)
		o.Linger = 2 * time.Millisecond
		_, stop := start(t, o)
		defer stop()
		synctest.Wait()
		p := s.Producer("udp", true)
		begin := time.Now()
		last, err := p.Append(recs(1, 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitAcked(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d > 5*time.Millisecond {
			t.Errorf("a single record took %v", d)
		}
		l.mu.Lock()
		l.latency = 100 * time.Millisecond
		l.mu.Unlock()
		before := m.entries
		for i := range 100 { // one each 100 µs, for 10 ms
			if last, err = p.Append(recs(i+2, i+2)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Microsecond)
		}
		if err := s.WaitAcked(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		m.want(t, 101)
		if n := m.entries - before; n < 4 || n > 8 {
			t.Errorf("%d batches", n)
		}
	})
}

// Under a steady stream, batches are made at a steady pace, however soon each
// is applied.
func TestForward_Pace(t *testing.T) {
	dir := memDir(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := spool.Open(spool.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m := newMachine()
		l := newLog(m, 1, false)
		l.latency = time.Millisecond
		defer l.stop()
		_, stop := start(t, options(s, l))
		defer stop()
		synctest.Wait()
		p := s.Producer("udp", true)
		var last uint64
		for i := range 1000 { // 20 each 2 ms, for 100 ms
			if last, err = p.Append(recs(i+1, i+1)); err != nil {
				t.Fatal(err)
			}
			if i%20 == 19 {
				time.Sleep(2 * time.Millisecond)
			}
		}
		if err := s.WaitAcked(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		m.want(t, 1000)
		if n := m.entries; n < 8 || n > 20 {
			t.Errorf("%d batches", n)
		}
	})
}

// A leader that never answers costs a timeout, and stopping ends at once.
func TestForward_Timeout(t *testing.T) {
	dir := memDir(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := spool.Open(spool.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m := newMachine()
		l := newLog(m, 1, false)
		defer l.stop()
		o := options(s, l)
		var silent atomic.Bool
		silent.Store(true)
		o.Submit = func(ctx context.Context, b *command.TrapBatch) Pending {
			if silent.Load() {
				return &future{done: make(chan struct{})}
			}
			return l.submit(ctx, b)
		}
		f, stop := start(t, o)
		appendTo(t, s, recs(1, 10))
		time.Sleep(DefaultTimeout + time.Second)
		if st := f.Status(); st.Unavailable == 0 || futago.CodeOf(st.LastError) != futago.CodeUnknown {
			t.Errorf("status %+v", st)
		}
		silent.Store(false)
		time.Sleep(DefaultTimeout + time.Second)
		m.want(t, 10)
		silent.Store(true)
		appendTo(t, s, recs(11, 11))
		synctest.Wait()
		begin := time.Now()
		stop()
		if time.Since(begin) > 0 {
			t.Error("stopping waited for an answer")
		}
	})
}

func TestForward_SpoolClosed(t *testing.T) {
	s := openSpool(t, memDir(t))
	l := newLog(newMachine(), 1, false)
	defer l.stop()
	done := make(chan error, 1)
	go func() { done <- New(options(s, l)).Run(context.Background()) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; futago.CodeOf(err) != futago.CodeUnavailable {
		t.Error(err)
	}
}
