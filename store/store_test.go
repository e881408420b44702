package store

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base is the time of event 0 in tests.
const base = int64(1_763_800_000_000_000_000)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: filepath.Join(dir, "futago.db"), ClusterID: "c1", Version: "1.0", Budget: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// kindOf: custom traps stand together in the first part of a block, so that
// later transactions of the block bring none.
func kindOf(id uint64) futago.Kind {
	if id%2048 > 100 && id%2048 < 110 {
		return futago.KindCustomTrap
	}
	return futago.KindSyslog
}

// row makes an event that depends on its id alone.
func row(id uint64) EventRow {
	src := netip.AddrFrom4([4]byte{10, 0, byte(id >> 8 & 3), byte(id)})
	at := base + int64(id)*int64(time.Millisecond)
	trap := futago.Trap{
		Kind: kindOf(id), Transport: futago.TransportUDP, Source: netip.AddrPortFrom(src, 514),
		Severity: futago.Severity(id % 8), Parsed: true, Charset: "utf-8", Host: fmt.Sprintf("host%d", id%7),
		Message: fmt.Sprintf("interface eth%d changed state, counter %d, 回線が断しました", id%5, id),
		Raw:     fmt.Appendf(nil, "<13>Nov 22 03:00:00 host%d interface eth%d", id%7, id%5),
		Syslog:  &futago.SyslogFields{Format: "rfc3164", Facility: 1, HasPRI: true, App: "kernel"},
	}
	return EventRow{
		ID: id, At: at, Kind: trap.Kind, Severity: trap.Severity, Source: src,
		Key: futago.NewKey(trap.Kind, src, []byte(trap.Message)), Reason: futago.ReasonFirst,
		Count: [2]uint64{1, 0}, First: [2]int64{at, 0}, Last: [2]int64{at, 0},
		Trap: command.AppendTrap(nil, &trap),
	}
}

func rows(first, n uint64) []EventRow {
	list := make([]EventRow, 0, n)
	for id := first; id < first+n; id++ {
		list = append(list, row(id))
	}
	return list
}

// insert commits events first to first+n-1 in one transaction.
func insert(t testing.TB, s *Store, first, n uint64) {
	t.Helper()
	write(t, s, Applied{Index: first + n, Term: 1, LogTime: base, NextEvent: first + n}, func(tx *Tx) error {
		return tx.InsertEvents(rows(first, n))
	})
}

func write(t testing.TB, s *Store, a Applied, f func(*Tx) error) {
	t.Helper()
	tx, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(a); err != nil {
		t.Fatal(err)
	}
}

func ids(p futago.EventPage) []uint64 {
	var list []uint64
	for i := range p.Events {
		list = append(list, p.Events[i].ID)
	}
	return list
}

func wantCode(t *testing.T, err error, code futago.Code) {
	t.Helper()
	if futago.CodeOf(err) != code {
		t.Fatalf("error %v has code %q, want %q", err, futago.CodeOf(err), code)
	}
}

func TestStore_EventRoundTrip(t *testing.T) {
	s := open(t, t.TempDir())
	want := row(1)
	ip6 := row(2)
	ip6.Source, ip6.Window, ip6.Rule = netip.MustParseAddr("2001:db8::1"), true, 7
	ip6.Count = [2]uint64{3, 2}
	ip6.First[1], ip6.Last[1] = base+5, base+9
	none := row(3)
	none.Source, none.Kind = netip.Addr{}, futago.KindInternal
	write(t, s, Applied{Index: 9, Term: 2, Hash: [32]byte{1}, LogTime: 3, Horizon: 4, NextEvent: 5}, func(tx *Tx) error {
		return tx.InsertEvents([]EventRow{want, ip6, none})
	})

	var got []EventRow
	for e, err := range s.OpenEvents(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	list := []EventRow{want, ip6, none}
	if d := cmp.Diff(list, got, cmpopts.IgnoreFields(EventRow{}, "Trap"), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
	ev, err := s.Event(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if ev.Count != 1 || ev.Copies != 5 || len(ev.Receipts) != 2 {
		t.Errorf("window event: count %d, copies %d, %d receipts", ev.Count, ev.Copies, len(ev.Receipts))
	}
	if !ev.Receipts[1].Last.Equal(time.Unix(0, base+9)) || ev.Receipts[1].Member != futago.MemberB {
		t.Errorf("receipt of b: %+v", ev.Receipts[1])
	}
	a, err := s.Applied(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a != (Applied{Index: 9, Term: 2, Hash: [32]byte{1}, LogTime: 3, Horizon: 4, NextEvent: 5}) {
		t.Errorf("applied: %+v", a)
	}
	_, err = s.Event(t.Context(), 99)
	wantCode(t, err, futago.CodeNotFound)
}

func TestTx_UpdateReceipts(t *testing.T) {
	s := open(t, t.TempDir())
	insert(t, s, 1, 100)
	upd := func(id, a, b uint64) Receipts {
		return Receipts{
			ID: id, Reason: futago.ReasonPaired, Count: [2]uint64{a, b},
			First: [2]int64{base, base + 1}, Last: [2]int64{base + 2, base + 3},
		}
	}
	write(t, s, Applied{Index: 2, NextEvent: 102}, func(tx *Tx) error {
		if err := tx.InsertEvents(rows(101, 1)); err != nil {
			return err
		}
		// Of a stored row twice, and of one that waits in memory.
		if err := tx.UpdateReceipts([]Receipts{upd(50, 1, 1), upd(101, 4, 4), upd(50, 2, 3)}); err != nil {
			return err
		}
		got, err := tx.Rows([]uint64{101, 50, 7, 5000})
		if err != nil {
			return err
		}
		if len(got) != 3 || got[0].Count != [2]uint64{4, 4} || got[1].Count != [2]uint64{2, 3} || got[2].ID != 7 {
			return fmt.Errorf("rows in the transaction: %+v", got)
		}
		return nil
	})
	for id, want := range map[uint64]uint64{50: 5, 101: 8, 51: 1} {
		ev, err := s.Event(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Copies != want {
			t.Errorf("event %d has %d copies, want %d", id, ev.Copies, want)
		}
	}

	tx, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.UpdateReceipts([]Receipts{upd(7000, 1, 1)}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, tx.Commit(Applied{Index: 3}), futago.CodeCorrupt)
	if a, err := s.Applied(t.Context()); err != nil || a.Index != 2 {
		t.Errorf("a failed commit left index %d, %v", a.Index, err)
	}
}

func TestTx_RollbackLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	insert(t, s, 1, 10)
	tx, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.InsertEvents(rows(11, 20_000)); err != nil { // more than is kept in memory
		t.Fatal(err)
	}
	if err := tx.PutUser(futago.User{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	tx.Rollback()
	tx.Rollback()
	if id, err := s.NewestEvent(t.Context()); err != nil || id != 10 {
		t.Errorf("newest event %d, %v", id, err)
	}
	if l, err := s.Users(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("users %v, %v", l, err)
	}
	insert(t, s, 11, 5) // the writer is free again
}

func TestStore_PageOfLargeEventsEndsEarly(t *testing.T) {
	s := open(t, t.TempDir())
	list := rows(1, 300)
	for i := range list {
		trap := futago.Trap{Kind: futago.KindSyslog, Message: "x", Raw: make([]byte, 60_000)}
		list[i].Trap = command.AppendTrap(nil, &trap)
	}
	write(t, s, Applied{Index: 1, NextEvent: 301}, func(tx *Tx) error { return tx.InsertEvents(list) })
	q := futago.EventQuery{Limit: 1000}
	total := 0
	for {
		p, err := s.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(p.Events); n > 100 {
			t.Fatalf("a page of %d events", n)
		}
		total += len(p.Events)
		if q.Before = p.Next; p.Next == 0 {
			break
		}
	}
	if total != 300 {
		t.Errorf("%d events in all pages", total)
	}
}

func TestStore_Reopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	insert(t, s, 1, 5000)
	_, want, err := s.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	_, got, err := s.Digest(t.Context())
	if err != nil || got != want {
		t.Errorf("digest after reopening: %x, %v, want %x", got, err, want)
	}
	if err := Check(t.Context(), s.Path()); err != nil {
		t.Error(err)
	}
}

func TestStore_ChangedIsClosedByCommit(t *testing.T) {
	s := open(t, t.TempDir())
	ch := s.Changed()
	select {
	case <-ch:
		t.Fatal("closed before any commit")
	default:
	}
	insert(t, s, 1, 1)
	select {
	case <-ch:
	default:
		t.Fatal("not closed by the commit")
	}
}

// lcg is a deterministic source for tests and benchmarks.
func lcg(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
