package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SPOOL_TEST_CHILD"); dir != "" {
		childAppend(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var testBase = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func rec(n int) futago.Received {
	return futago.Received{
		At: testBase.Add(time.Duration(n) * time.Millisecond).UnixNano(), Kind: futago.KindSyslog,
		Transport: futago.TransportUDP, Source: netip.MustParseAddrPort("192.0.2.7:514"),
		Raw: fmt.Appendf(nil, "<13>Nov 22 10:00:00 host app: record %d", n),
	}
}

func recs(from, to int) []futago.Received {
	var rs []futago.Received
	for i := from; i <= to; i++ {
		rs = append(rs, rec(i))
	}
	return rs
}

func open(t testing.TB, o Options) *Spool {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func appendTo(t testing.TB, s *Spool, rs []futago.Received) {
	t.Helper()
	p := s.Producer("test", true)
	defer p.Close()
	if _, err := p.Append(rs); err != nil {
		t.Fatal(err)
	}
}

func closeSpool(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// readAll reads everything from a position to the newest, batch by batch.
func readAll(t testing.TB, s *Spool, from uint64, maxRecords int) (batches []Batch) {
	t.Helper()
	for from <= s.Last() {
		b, err := s.Read(t.Context(), from, maxRecords, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if b.Next() <= from {
			t.Fatalf("no progress at %d: %+v", from, b)
		}
		batches = append(batches, b)
		from = b.Next()
	}
	return batches
}

func flatten(bs []Batch) (rs []futago.Received) {
	for _, b := range bs {
		rs = append(rs, b.Records...)
	}
	return rs
}

var cmpAddr = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func wantRecords(t testing.TB, got, want []futago.Received) {
	t.Helper()
	if slices.EqualFunc(got, want, func(a, b futago.Received) bool {
		return a.Seq == b.Seq && a.At == b.At && a.Kind == b.Kind && a.Transport == b.Transport &&
			a.Source == b.Source && a.Truncated == b.Truncated && bytes.Equal(a.Raw, b.Raw)
	}) {
		return
	}
	if d := cmp.Diff(want, got, cmpAddr); d != "" {
		t.Fatalf("records differ (-want +got):\n%s", d)
	}
}

func numbered(rs []futago.Received, from uint64) []futago.Received {
	for i := range rs {
		rs[i].Seq = from + uint64(i)
	}
	return rs
}

func TestSpool_RoundTrip(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	var rs []futago.Received
	for i, src := range []string{"192.0.2.1:1", "[2001:db8::1]:65535", "[fe80::1%eth0]:514", "[::ffff:192.0.2.9]:5"} {
		r := rec(i)
		r.Source = netip.MustParseAddrPort(src)
		r.Kind = futago.Kind(i%3 + 1)
		r.Truncated = i%2 == 1
		rs = append(rs, r)
	}
	rs = append(rs, futago.Received{Kind: futago.KindCustomTrap, Raw: []byte{}, At: -5}, futago.Received{Raw: bytes.Repeat([]byte{0}, MaxRaw)})
	in := slices.Clone(rs)
	appendTo(t, s, in)
	for i := range in {
		if in[i].Seq != uint64(i+1) {
			t.Fatalf("record %d got Seq %d", i, in[i].Seq)
		}
	}
	want := numbered(rs, 1)
	wantRecords(t, flatten(readAll(t, s, 1, 100)), want)
	wantRecords(t, flatten(readAll(t, s, 1, 1)), want)

	s.mu.Lock() // the same from the disk
	s.cache = nil
	s.mu.Unlock()
	wantRecords(t, flatten(readAll(t, s, 1, 100)), want)
	wantRecords(t, flatten(readAll(t, s, 1, 1)), want)
}

func TestAppend_TooLong(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	p := s.Producer("p", true)
	rs := recs(1, 3)
	rs[1].Raw = make([]byte, MaxRaw+1)
	if last, err := p.Append(rs); err != nil || last != 3 {
		t.Fatalf("got %d, %v", last, err)
	}
	got := flatten(readAll(t, s, 1, 100))
	if len(got[1].Raw) != MaxRaw || !got[1].Truncated || got[0].Truncated || got[2].Truncated {
		t.Errorf("%d bytes, truncated %v", len(got[1].Raw), got[1].Truncated)
	}
}

func TestAppend_Concurrent(t *testing.T) {
	s := open(t, Options{Dir: memDir(t)})
	p := s.Producer("streams", false)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if _, err := p.Append(recs(1, 3)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := flatten(readAll(t, s, 1, 100)); len(got) != 2400 {
		t.Errorf("%d records", len(got))
	}
}

func TestOpen_NewIdentityEachTime(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	var ids []command.ID
	for i := range 3 {
		s := open(t, o)
		ids = append(ids, s.ID())
		appendTo(t, s, recs(i*10+1, i*10+10))
		if i == 1 {
			if err := s.Ack(3); err != nil {
				t.Fatal(err)
			}
		}
		closeSpool(t, s)
	}
	s := open(t, o) // without a record of its own so far
	closeSpool(t, s)
	s = open(t, o)
	if s.Acked() != 3 || s.Last() != 30 {
		t.Fatalf("acked %d, last %d", s.Acked(), s.Last())
	}
	bs := readAll(t, s, s.Acked()+1, 100)
	wantRecords(t, flatten(bs), numbered(recs(4, 30), 4))
	if len(bs) != 3 {
		t.Fatalf("%d batches, want one for each identity", len(bs))
	}
	for i, b := range bs {
		wantEnd := uint64(i*10 + 10)
		if b.Spool != ids[i] || b.Base != uint64(i*10) || b.End != wantEnd {
			t.Errorf("batch %d: spool %v base %d end %d, want %v %d %d", i, b.Spool, b.Base, b.End, ids[i], i*10, wantEnd)
		}
	}
	if slices.Contains(ids, s.ID()) {
		t.Error("an identity was used again")
	}
	if len(s.epochs) != 4 {
		t.Errorf("%d identities kept, want 4: empty ones are replaced", len(s.epochs))
	}
}

func TestOpen_SecondProcess(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	if _, err := Open(o); futago.CodeOf(err) != futago.CodeConflict {
		t.Fatalf("got %v, want conflict", err)
	}
	closeSpool(t, s)
	open(t, o)
}

func segmentFiles(t testing.TB, dir, suffix string) []string {
	t.Helper()
	m, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// poll waits for a condition that another goroutine brings about.
func poll(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAck_DeletesSegments(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, MaxBytes: 1 << 20, SegmentBytes: 4096})
	for i := range 20 {
		appendTo(t, s, recs(i*50+1, i*50+50))
	}
	if n := len(segmentFiles(t, dir, ".seg")); n < 10 {
		t.Fatalf("only %d segments", n)
	}
	if err := s.Ack(500); err != nil {
		t.Fatal(err)
	}
	poll(t, "half of the files deleted", func() bool { return len(segmentFiles(t, dir, ".seg")) <= 11 })
	wantRecords(t, flatten(readAll(t, s, 501, 4096)), numbered(recs(501, 1000), 501))
	if err := s.Ack(1000); err != nil {
		t.Fatal(err)
	}
	poll(t, "one file kept", func() bool { return len(segmentFiles(t, dir, ".seg")) == 1 })
	if err := s.Ack(1001); futago.CodeOf(err) != futago.CodeInvalid {
		t.Fatalf("ack beyond the end: %v", err)
	}
	if st := s.Status(); st.Depth != 0 || st.Bytes != 0 {
		t.Fatalf("status %+v", st)
	}
	closeSpool(t, s)
	s = open(t, Options{Dir: dir})
	if s.Acked() != 1000 || s.Last() != 1000 {
		t.Fatalf("after reopen: acked %d last %d", s.Acked(), s.Last())
	}
	appendTo(t, s, recs(1001, 1001))
	wantRecords(t, flatten(readAll(t, s, 1001, 10)), numbered(recs(1001, 1001), 1001))
}

func TestOpen_AckFileLost(t *testing.T) {
	for _, how := range []string{"removed", "garbage", "newest slot damaged"} {
		t.Run(how, func(t *testing.T) {
			o := Options{Dir: t.TempDir()}
			s := open(t, o)
			id := s.ID()
			appendTo(t, s, recs(1, 10))
			s.mu.Lock()
			err := s.ack.write(4)
			s.mu.Unlock()
			if err == nil {
				err = s.Ack(7)
			}
			if err != nil {
				t.Fatal(err)
			}
			closeSpool(t, s)
			name := filepath.Join(o.Dir, ackName)
			want := uint64(0)
			switch how {
			case "removed":
				err = os.Remove(name)
			case "garbage":
				err = os.WriteFile(name, bytes.Repeat([]byte{7}, 1024), 0o600)
			default:
				b, rerr := os.ReadFile(name)
				if rerr != nil {
					t.Fatal(rerr)
				}
				b[ackSlot] ^= 1
				err = os.WriteFile(name, b, 0o600)
				want = 4
			}
			if err != nil {
				t.Fatal(err)
			}
			s = open(t, o)
			if s.Acked() != want {
				t.Fatalf("acked %d, want %d", s.Acked(), want)
			}
			// What is proposed again has its old identity, so that the state
			// machine can tell what it has.
			bs := readAll(t, s, s.Acked()+1, 100)
			wantRecords(t, flatten(bs), numbered(recs(int(want)+1, 10), want+1))
			if bs[0].Spool != id {
				t.Error("the identity changed")
			}
		})
	}
}

func TestOpen_IdentityDamaged(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	id := s.ID()
	appendTo(t, s, recs(1, 10))
	closeSpool(t, s)
	name := filepath.Join(o.Dir, identityName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-10] ^= 4
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	if st := s.Status(); futago.CodeOf(st.LastError) != futago.CodeCorrupt || !strings.Contains(st.LastError.Error(), name) {
		t.Fatalf("last error %v", st.LastError)
	}
	bs := readAll(t, s, 1, 100)
	wantRecords(t, flatten(bs), numbered(recs(1, 10), 1))
	if bs[0].Spool != id {
		t.Error("the identity was not taken from the segment")
	}
	if _, err := os.Stat(name + corruptSuffix); err != nil {
		t.Error(err)
	}
}

func TestOpen_NewerVersion(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	appendTo(t, s, recs(1, 3))
	closeSpool(t, s)
	seg := segmentFiles(t, o.Dir, ".seg")[0]
	for name, change := range map[string]func([]byte){
		seg:                                func(b []byte) { b[8] = 2 },
		filepath.Join(o.Dir, identityName): func(b []byte) { b[len("futago-spool ")] = '2' },
	} {
		old, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b := slices.Clone(old)
		change(b)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o); futago.CodeOf(err) != futago.CodeIncompatible || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := os.WriteFile(name, old, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, o)
	wantRecords(t, flatten(readAll(t, s, 1, 100)), numbered(recs(1, 3), 1))
}

func TestRenew(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	old := s.ID()
	appendTo(t, s, recs(1, 20))
	waits := make([]error, 3)
	var wg sync.WaitGroup
	for i, pos := range []uint64{5, 8, 15} {
		wg.Go(func() { waits[i] = s.WaitAcked(t.Context(), pos) })
	}
	poll(t, "waiters", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.waiters) == 3 })
	if err := s.Ack(5); err != nil {
		t.Fatal(err)
	}
	if err := s.Renew(4, "x"); futago.CodeOf(err) != futago.CodeInvalid {
		t.Fatalf("renew behind the acknowledged position: %v", err)
	}
	if err := s.Renew(12, "test"); err != nil {
		t.Fatal(err)
	}
	if s.Acked() != 12 || s.ID() == old || s.Status().Lost != 7 {
		t.Fatalf("acked %d, lost %d", s.Acked(), s.Status().Lost)
	}
	closeSpool(t, s)
	wg.Wait()
	for i, want := range []futago.Code{"", futago.CodeCorrupt, futago.CodeUnavailable} {
		if futago.CodeOf(waits[i]) != want {
			t.Errorf("waiter %d: %v", i, waits[i])
		}
	}
	s = open(t, o)
	b, err := s.Read(t.Context(), 13, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if b.Base != 12 || b.First != 13 || len(b.Records) != 8 || b.Spool == old {
		t.Fatalf("got %+v", b)
	}
}

func TestWaitAcked_Many(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	const n = 2000
	appendTo(t, s, recs(1, n))
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for i := range n {
		wg.Go(func() {
			if err := s.WaitAcked(t.Context(), uint64(i+1)); err != nil {
				t.Error(err)
			}
			if s.Acked() < uint64(i+1) {
				t.Errorf("waiter %d was released early", i+1)
			}
		})
		wg.Go(func() {
			if err := s.WaitAcked(ctx, n+5); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	poll(t, "waiters", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.waiters) == 2*n })
	for i := uint64(7); i < n; i += 7 {
		if err := s.Ack(i); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := s.Ack(n); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if len(s.waiters) != 0 {
		t.Errorf("%d waiters left", len(s.waiters))
	}
	if err := s.WaitAcked(t.Context(), n); err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	p := s.Producer("p", true)
	errs := make(chan error)
	go func() {
		_, err := s.Read(context.Background(), 1, 1, 1)
		errs <- err
	}()
	closeSpool(t, s)
	if err := <-errs; futago.CodeOf(err) != futago.CodeUnavailable {
		t.Error(err)
	}
	if _, err := p.Append(recs(1, 1)); futago.CodeOf(err) != futago.CodeUnavailable {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
