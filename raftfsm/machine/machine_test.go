package machine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store"
)

// member is a machine on a store of its own that can be restarted.
type member struct {
	t     tester
	path  string
	limit int
	s     *store.Store
	*Machine
}

// tester is what testing.TB and rapid.T have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Context() context.Context
	Cleanup(func())
}

func newMember(t testing.TB, limit int) *member {
	t.Helper()
	return newMemberIn(t, t.TempDir(), limit)
}

func newMemberIn(t tester, dir string, limit int) *member {
	t.Helper()
	m := &member{t: t, path: filepath.Join(dir, "state.db"), limit: limit}
	m.open()
	t.Cleanup(func() {
		if err := m.s.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return m
}

func (m *member) open() {
	m.t.Helper()
	var err error
	if m.s, err = store.Open(m.t.Context(), store.Options{Path: m.path, ClusterID: "c", Version: "0.1.0", Readers: 1}); err != nil {
		m.t.Fatal(err)
	}
	if m.Machine, err = Open(m.t.Context(), m.s, Options{DedupLimit: m.limit}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) restart() {
	m.t.Helper()
	if err := m.s.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.open()
}

func (m *member) apply(entries ...Entry) []Result {
	m.t.Helper()
	res, err := m.Apply(m.t.Context(), entries)
	if err != nil {
		m.t.Fatal(err)
	}
	return res
}

func (m *member) events() []futago.Event {
	m.t.Helper()
	var list []futago.Event
	for row, err := range m.s.OpenEvents(m.t.Context(), 1) {
		if err != nil {
			m.t.Fatal(err)
		}
		e, err := m.s.Event(m.t.Context(), row.ID)
		if err != nil {
			m.t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// testLog builds entries.
type testLog struct {
	t       tester
	entries []Entry
	ids     int
}

func (l *testLog) add(e command.Entry) Entry {
	l.t.Helper()
	b, err := command.Encode(e)
	if err != nil {
		l.t.Fatal(err)
	}
	// Indexes have gaps, as Raft puts entries of its own between.
	n := len(l.entries)
	x := Entry{Index: uint64(n*3 + 5), Term: uint64(n/10 + 1), Data: b}
	l.entries = append(l.entries, x)
	return x
}

func (l *testLog) meta(at int64) command.Meta {
	l.ids++
	return command.Meta{ID: testID(l.ids), At: time.Unix(0, at).UTC(), By: "test"}
}

func testID(n int) command.ID { return command.ID{0xaa, 14: byte(n >> 8), 15: byte(n)} }

var source = netip.MustParseAddr("192.0.2.1")

// testBody makes the body of message n.
func testBody(n int) command.Body {
	raw := fmt.Appendf(nil, "<13>message %d of a device", n)
	trap := futago.Trap{
		Kind: futago.KindSyslog, Transport: futago.TransportUDP, Source: netip.AddrPortFrom(source, 514), Severity: 5, Parsed: true,
		Message: string(raw[4:]), Raw: raw, Syslog: &futago.SyslogFields{Format: "bare", Facility: 1, HasPRI: true},
	}
	return command.Body{
		Key: futago.NewKey(trap.Kind, source, raw), Kind: trap.Kind, Source: source, Severity: trap.Severity,
		Trap: command.AppendTrap(nil, &trap),
	}
}

// testBatch makes a batch of messages; the copy of message n arrives at n seconds.
func testBatch(member futago.MemberID, first uint64, messages ...int) *command.TrapBatch {
	b := &command.TrapBatch{Member: member, Spool: command.ID{1, member[0]}, First: first}
	for i, n := range messages {
		b.Bodies = append(b.Bodies, testBody(n))
		b.Copies = append(b.Copies, command.Copy{Body: uint32(i), At: int64(n) * int64(time.Second)})
		b.Watermark = int64(n) * int64(time.Second)
	}
	b.ProposedAt = b.Watermark
	return b
}

func TestApply_Batches(t *testing.T) {
	m := newMember(t, 0)
	l := &testLog{t: t}
	bodiless := testBatch(futago.MemberB, 1, 1, 9, 2)
	bodiless.Bodies[0].Trap, bodiless.Bodies[1].Trap = nil, nil
	idle := testBatch(futago.MemberB, 4)
	idle.Watermark = int64(8 * time.Second)
	stale := testBatch(futago.MemberB, 1, 9)
	renewed := testBatch(futago.MemberB, 1, 3)
	renewed.Spool = testID(77)
	unknown := testBatch(futago.MemberB, 5, 3)
	unknown.Spool = testID(78)
	steps := []struct {
		name string
		b    *command.TrapBatch
		want command.BatchResult
		mark [2]int64 // watermarks in seconds
	}{
		{"first", testBatch(futago.MemberA, 1, 1, 2), command.BatchResult{Applied: 2}, [2]int64{2, 0}},
		{"again", testBatch(futago.MemberA, 1, 1, 2), command.BatchResult{Applied: 2}, [2]int64{2, 0}},
		{"overlapping", testBatch(futago.MemberA, 2, 2, 3), command.BatchResult{Applied: 3}, [2]int64{3, 0}},
		{"once more", testBatch(futago.MemberA, 1, 1, 2), command.BatchResult{Applied: 3}, [2]int64{3, 0}},
		{"with a gap", testBatch(futago.MemberA, 6, 6), command.BatchResult{Applied: 3, Gap: true}, [2]int64{3, 0}},
		{"a body is missing", bodiless, command.BatchResult{Applied: 1, NeedBody: true}, [2]int64{3, 0}},
		{"the rest, whole", testBatch(futago.MemberB, 2, 9, 2), command.BatchResult{Applied: 3}, [2]int64{3, 2}},
		{"another spool from the middle", unknown, command.BatchResult{Gap: true}, [2]int64{3, 2}},
		{"the watermark alone", idle, command.BatchResult{Applied: 3}, [2]int64{3, 8}},
		{"another spool", renewed, command.BatchResult{Applied: 1}, [2]int64{3, 3}},
		{"the former spool", stale, command.BatchResult{Applied: 3, Stale: true}, [2]int64{3, 3}},
	}
	for _, st := range steps {
		if got := m.apply(l.add(st.b))[0].Batch; got != st.want {
			t.Errorf("%s: %+v, want %+v", st.name, got, st.want)
		}
		m.restart()
		for slot, w := range m.Stats().Watermarks {
			if w != st.mark[slot]*int64(time.Second) {
				t.Errorf("%s: watermark %d is %v", st.name, slot, time.Duration(w))
			}
		}
	}
	type row struct {
		msg   string
		a, b  uint64
		count uint64
	}
	var got []row
	for _, e := range m.events() {
		r := row{msg: e.Trap.Message, count: e.Count}
		for _, x := range e.Receipts {
			if x.Member == futago.MemberA {
				r.a = x.Count
			} else {
				r.b = x.Count
			}
		}
		got = append(got, r)
	}
	want := []row{
		{"message 1 of a device", 1, 1, 1}, {"message 2 of a device", 1, 1, 1}, {"message 3 of a device", 1, 1, 1}, {"message 9 of a device", 0, 1, 1},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
		t.Error(diff)
	}
	// All of it once more, as after a restart of Raft, changes nothing.
	before := m.Applied()
	for i, r := range m.apply(l.entries...) {
		if r.Index != l.entries[i].Index {
			t.Errorf("entry %d answers for %d", l.entries[i].Index, r.Index)
		}
	}
	if m.Applied() != before {
		t.Errorf("%+v became %+v", before, m.Applied())
	}
}

func TestApply_Proposals(t *testing.T) {
	m := newMember(t, 0)
	l := &testLog{t: t}
	admin := func(name string, create bool) *command.PutUser {
		return &command.PutUser{Meta: l.meta(1), Create: create, User: futago.User{Name: name, Role: futago.RoleAdmin}}
	}
	viewer := admin("bob", false)
	viewer.User.Role = futago.RoleViewer
	settings := func(rev uint64) *command.PutIntakeSettings {
		return &command.PutIntakeSettings{Meta: l.meta(1), Settings: futago.IntakeSettings{Revision: rev, TimeZone: fmt.Sprint(rev)}}
	}
	alice := admin("alice", true)
	steps := []struct {
		name string
		p    command.Proposal
		want futago.Code
	}{
		{"first admin", alice, ""},
		{"the same proposal", alice, ""},
		{"creating twice", admin("alice", true), futago.CodeConflict},
		{"replacing", admin("alice", false), ""},
		{"deleting the last admin", &command.DeleteUser{Meta: l.meta(1), Name: "alice"}, futago.CodeConflict},
		{"a second admin", admin("bob", true), ""},
		{"deleting one of two", &command.DeleteUser{Meta: l.meta(1), Name: "alice"}, ""},
		{"deleting it again", &command.DeleteUser{Meta: l.meta(1), Name: "alice"}, futago.CodeNotFound},
		{"demoting the last admin", viewer, futago.CodeConflict},
		{"a user without a name", admin("", true), futago.CodeInvalid},
		{"token", &command.PutToken{Meta: l.meta(1), Token: futago.Token{ID: "t"}}, ""},
		{"no token", &command.DeleteToken{Meta: l.meta(1), TokenID: "u"}, futago.CodeNotFound},
		{"delete token", &command.DeleteToken{Meta: l.meta(1), TokenID: "t"}, ""},
		{"settings", settings(1), ""},
		{"stale settings", settings(1), futago.CodeConflict},
		{"settings from the future", settings(3), futago.CodeConflict},
		{"more settings", settings(2), ""},
		{"report", &command.Report{Meta: l.meta(7), Member: futago.MemberB, Topic: "spool-overflow", Severity: 4, Message: "12 lost"}, ""},
		{"report of the third vote", &command.Report{Meta: l.meta(8), Member: futago.MemberW, Topic: "x", Severity: 4}, ""},
		{"report of nobody", &command.Report{Meta: l.meta(8), Member: "q"}, futago.CodeInvalid},
	}
	var first []Result
	for _, st := range steps {
		r := m.apply(l.add(st.p))[0]
		if r.Code != st.want || futago.CodeOf(r.Err()) != st.want {
			t.Errorf("%s: %q (%s), want %q", st.name, r.Code, r.Message, st.want)
		}
		first = append(first, r)
		m.restart()
	}
	// Each proposal once more, at a later index, is answered as it was.
	for i, st := range steps {
		if i == 1 {
			continue
		}
		if diff := cmp.Diff(first[i], m.apply(l.add(st.p))[0]); diff != "" {
			t.Errorf("%s, repeated: %s", st.name, diff)
		}
	}
	if got := m.Settings(); got.Revision != 2 || got.TimeZone != "2" {
		t.Errorf("settings %+v", got)
	}
	ev := m.events()
	if len(ev) != 2 || ev[0].Trap.Own.Topic != "spool-overflow" || ev[0].Count != 1 || ev[0].Reason != futago.ReasonInternal ||
		ev[0].Receipts[0].Member != futago.MemberB || ev[1].Count != 1 || len(ev[1].Receipts) != 0 {
		t.Errorf("events %+v", ev)
	}
	if first[17].EventID != 1 || first[18].EventID != 2 {
		t.Errorf("reports made events %d and %d", first[17].EventID, first[18].EventID)
	}
	// A day later, in log time, the proposal counts as new.
	alice.At = time.Unix(0, int64(26*time.Hour))
	if r := m.apply(l.add(&command.DeleteToken{Meta: command.Meta{ID: testID(900), At: alice.At}}), l.add(alice))[1]; r.Code != "" || r.Index == first[0].Index {
		t.Errorf("a day later: %+v", r)
	}
}

func TestApply_BadEntry(t *testing.T) {
	m := newMember(t, 0)
	l := &testLog{t: t}
	good := l.add(testBatch(futago.MemberA, 1, 1))
	bad := l.add(testBatch(futago.MemberA, 2, 2))
	whole := bad.Data
	bad.Data = append([]byte{}, whole...)
	bad.Data[20] ^= 1
	res, err := m.Apply(t.Context(), []Entry{good, bad})
	if futago.CodeOf(err) != futago.CodeCorrupt || len(res) != 1 || m.Applied().Index != good.Index {
		t.Fatalf("%v, %v, applied %d", res, err, m.Applied().Index)
	}
	bad.Data = whole
	if r := m.apply(good, bad); r[1].Batch.Applied != 2 {
		t.Errorf("got %+v", r)
	}
}

// TestApply_StorageFails makes the database refuse a row. The member must not
// have kept anything of the transaction, and go on when the fault is gone.
func TestApply_StorageFails(t *testing.T) {
	m, twin := newMember(t, 0), newMember(t, 0)
	l := &testLog{t: t}
	entries := []Entry{
		l.add(testBatch(futago.MemberA, 1, 1, 2)),
		l.add(&command.PutIntakeSettings{Meta: l.meta(1), Settings: futago.IntakeSettings{Revision: 1}}),
		l.add(testBatch(futago.MemberB, 1, 1, 3)),
		l.add(testBatch(futago.MemberA, 3, 3, 4)),
	}
	m.apply(entries[0])
	sqlite(t, m.path, "CREATE TRIGGER fault BEFORE INSERT ON events WHEN NEW.id = 4 BEGIN SELECT RAISE(ABORT, 'fault'); END")
	if _, err := m.Apply(t.Context(), entries[1:]); err == nil {
		t.Fatal("the fault was not noticed")
	}
	if m.Applied().Index != entries[0].Index || m.Settings().Revision != 0 {
		t.Error("something of the failed transaction is visible")
	}
	sqlite(t, m.path, "DROP TRIGGER fault")
	if diff := cmp.Diff(twin.apply(entries...), append(m.apply(entries[0]), m.apply(entries[1:]...)...)); diff != "" {
		t.Error(diff)
	}
	same(t, m, twin)
	// A context that ends before the transaction begins leaves no trace either.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if tx, err := m.s.Begin(t.Context()); err == nil {
		if _, err := m.Apply(ctx, []Entry{l.add(testBatch(futago.MemberA, 5, 5))}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		tx.Rollback()
	}
	twin.apply(l.entries...)
	m.apply(l.entries...)
	same(t, m, twin)
}

func sqlite(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

// same fails when two members do not hold the same.
func same(t tester, a, b *member) {
	t.Helper()
	x, y := a.Applied(), b.Applied()
	x.Horizon, y.Horizon = 0, 0 // depends on how much is kept in memory
	if diff := cmp.Diff(x, y); diff != "" {
		t.Fatalf("applied: %s", diff)
	}
	_, dx, err := a.s.Digest(t.Context())
	if err != nil {
		t.Fatalf("%v", err)
	}
	_, dy, err := b.s.Digest(t.Context())
	if err != nil || dx != dy {
		t.Fatalf("digests %x and %x, %v", dx, dy, err)
	}
}

// TestHash_Chain: two members that differ in one early entry never agree again.
func TestHash_Chain(t *testing.T) {
	var last [2]store.Applied
	for i := range 2 {
		m := newMember(t, 0)
		l := &testLog{t: t}
		m.apply(l.add(testBatch(futago.MemberA, 1, 1+i)), l.add(testBatch(futago.MemberA, 2, 7)), l.add(testBatch(futago.MemberA, 2)))
		last[i] = m.Applied()
	}
	if last[0].Hash == last[1].Hash {
		t.Error("the hashes are equal")
	}
	// Log time does not go back: the last batch was proposed at 0.
	if last[0].LogTime != int64(7*time.Second) {
		t.Errorf("log time %v", time.Duration(last[0].LogTime))
	}
}

func TestHashAt(t *testing.T) {
	m := newMember(t, 0)
	l := &testLog{t: t}
	hashes := map[uint64][32]byte{}
	for range ringSize + 10 {
		e := l.add(testBatch(futago.MemberA, 1))
		hashes[e.Index] = [32]byte{}
	}
	m.apply(l.entries[0])
	hashes[l.entries[0].Index] = m.Applied().Hash
	m.apply(l.entries[1:ringSize]...)
	if h, ok := m.HashAt(l.entries[0].Index + 1); !ok || h != hashes[l.entries[0].Index] {
		t.Errorf("hash after the first entry: %x, %v", h, ok)
	}
	m.apply(l.entries[ringSize:]...)
	last := l.entries[len(l.entries)-1].Index
	if h, ok := m.HashAt(last); !ok || h != m.Applied().Hash {
		t.Error("the last hash is wrong")
	}
	if _, ok := m.HashAt(l.entries[0].Index); ok {
		t.Error("a hash is known that does not fit into the ring")
	}
	m.restart()
	if h, ok := m.HashAt(last); !ok || h != m.Applied().Hash {
		t.Error("the hash is lost by a restart")
	}
	if _, ok := m.HashAt(last - 1); ok {
		t.Error("a hash from before the restart is known")
	}
}

func TestSubscribe(t *testing.T) {
	m := newMember(t, 0)
	l := &testLog{t: t}
	s := m.Subscribe(1)
	e := l.add(testBatch(futago.MemberA, 1, 1, 2))
	m.apply(e)
	if diff := cmp.Diff(Change{Index: e.Index, First: 1, Next: 3}, <-s.C); diff != "" {
		t.Error(diff)
	}
	e = l.add(testBatch(futago.MemberB, 1, 2, 3, 3))
	m.apply(e)
	m.apply(l.add(testBatch(futago.MemberB, 4, 4)))
	if diff := cmp.Diff(Change{Index: e.Index, First: 3, Next: 4, Updated: []uint64{2}}, <-s.C); diff != "" {
		t.Error(diff)
	}
	if s.Dropped() != 1 {
		t.Errorf("%d dropped", s.Dropped())
	}
	s.Close()
	s.Close()
	m.apply(l.add(testBatch(futago.MemberB, 5, 5)))
	if s.Dropped() != 1 || len(s.C) != 0 {
		t.Error("a closed subscription is served")
	}
}
