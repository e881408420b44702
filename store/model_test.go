package store

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// model is what the store must hold, in plain maps.
type model struct {
	applied   Applied
	events    map[uint64]EventRow
	users     map[string]futago.User
	tokens    map[string]futago.Token
	settings  futago.IntakeSettings
	marks     map[string]SpoolMark
	proposals map[command.ID]int64
	state     []byte
}

func newModel() *model {
	return &model{
		applied: Applied{NextEvent: 1}, events: map[uint64]EventRow{}, users: map[string]futago.User{},
		tokens: map[string]futago.Token{}, marks: map[string]SpoolMark{}, proposals: map[command.ID]int64{},
	}
}

func (m *model) clone() *model {
	c := *m
	c.events, c.users, c.tokens = maps.Clone(m.events), maps.Clone(m.users), maps.Clone(m.tokens)
	c.marks, c.proposals = maps.Clone(m.marks), maps.Clone(m.proposals)
	return &c
}

func id16(n int) (id command.ID) { id[0], id[15] = byte(n), 9; return id }

// change does one random thing to the transaction and to the model.
func (m *model) change(t *rapid.T, tx *Tx) error {
	n := rapid.IntRange(1, 6).Draw(t, "n")
	when := time.Unix(int64(n), 0).UTC()
	switch rapid.IntRange(0, 10).Draw(t, "op") {
	case 0, 1, 2:
		count := rapid.SampledFrom([]uint64{1, 3, 17, 40, 900}).Draw(t, "count")
		list := rows(m.applied.NextEvent, count)
		for i := range list {
			list[i].At -= int64(rapid.IntRange(0, 3).Draw(t, "late")) * int64(time.Minute)
			list[i].Window = n == 1
			m.events[list[i].ID] = list[i]
			if count > 100 {
				break // one draw is enough for a large batch
			}
		}
		for i := range list {
			m.events[list[i].ID] = list[i]
		}
		m.applied.NextEvent += count
		return tx.InsertEvents(list)
	case 3, 4:
		if m.applied.NextEvent == 1 {
			return nil
		}
		var list []Receipts
		for range n {
			id := rapid.Uint64Range(1, m.applied.NextEvent-1).Draw(t, "event")
			r := Receipts{ID: id, Reason: futago.ReasonRepeat, Count: [2]uint64{uint64(n), 1}, First: [2]int64{1, 2}, Last: [2]int64{3, int64(n)}}
			list = append(list, r)
			e := m.events[id]
			e.set(&r)
			m.events[id] = e
		}
		return tx.UpdateReceipts(list)
	case 5:
		u := futago.User{Name: fmt.Sprint("user", n), Role: futago.RoleViewer, PasswordHash: when.String(), CreatedAt: when}
		m.users[u.Name] = u
		return tx.PutUser(u)
	case 6:
		name := fmt.Sprint("user", n)
		_, had := m.users[name]
		delete(m.users, name)
		if ok, err := tx.DeleteUser(name); err != nil || ok != had {
			return fmt.Errorf("delete user: %v, %w", ok, err)
		}
		return nil
	case 7:
		k := futago.Token{ID: fmt.Sprint("t", n), Role: futago.RoleAdmin, SecretHash: "x", CreatedAt: when}
		m.tokens[k.ID] = k
		return tx.PutToken(k)
	case 8:
		m.settings.Revision++
		m.settings.TimeZone = when.String()
		return tx.PutSettings(m.settings)
	case 9:
		k := SpoolMark{Member: futago.MemberOfSlot(n % 2), Spool: id16(n / 2), Seq: m.applied.NextEvent, Watermark: int64(n), Current: n < 4}
		m.marks[string(k.Member)+string(k.Spool[:])] = k
		return tx.PutSpoolMark(k)
	default:
		before := int64(rapid.IntRange(0, 4).Draw(t, "before"))
		maps.DeleteFunc(m.proposals, func(_ command.ID, at int64) bool { return at < before })
		if _, err := tx.PruneProposals(before); err != nil {
			return err
		}
		m.proposals[id16(n)] = int64(n)
		m.state = bytes.Repeat([]byte{byte(n)}, n)
		if err := tx.PutState("dedup", m.state); err != nil {
			return err
		}
		return tx.PutProposal(id16(n), int64(n), []byte{byte(n)})
	}
}

// inside compares what the transaction sees.
func (m *model) inside(t *rapid.T, tx *Tx) {
	for i := range 7 {
		got, found, err := tx.Proposal(id16(i))
		at, want := m.proposals[id16(i)]
		if err != nil || found != want || found && got[0] != byte(at) {
			t.Fatalf("proposal %d: %v %v %v", i, got, found, err)
		}
	}
	if s, err := tx.Settings(); err != nil || s.Revision != m.settings.Revision {
		t.Fatalf("settings %d, %v", s.Revision, err)
	}
}

// outside compares what readers see.
func (m *model) outside(t *rapid.T, s *Store) {
	ctx := t.Context()
	check := func(what string, want, got any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s: %s", what, d)
		}
	}
	a, err := s.Applied(ctx)
	check("applied", m.applied, a, err)
	users, err := s.Users(ctx)
	check("users", sorted(m.users), users, err)
	tokens, err := s.Tokens(ctx)
	check("tokens", sorted(m.tokens), tokens, err)
	marks, err := s.SpoolMarks(ctx)
	check("marks", sorted(m.marks), marks, err)
	settings, err := s.Settings(ctx)
	check("settings", m.settings.TimeZone, settings.TimeZone, err)
	state, err := s.State(ctx, "dedup")
	check("state", m.state, state, err)

	want := uint64(1)
	for e, err := range s.OpenEvents(ctx, 1) {
		if err != nil {
			t.Fatal(err)
		}
		w := m.events[want]
		w.Trap = nil
		if e.ID != want || e.Key != w.Key || e.receipts() != w.receipts() || e.Window != w.Window || e.At != w.At {
			t.Fatalf("event %+v, want %+v", e, w)
		}
		want++
	}
	if want != m.applied.NextEvent {
		t.Fatalf("%d events, want %d", want-1, m.applied.NextEvent-1)
	}
	m.pages(t, s)
}

// pages follows a filtered query page by page.
func (m *model) pages(t *rapid.T, s *Store) {
	sev := futago.Severity(rapid.IntRange(0, 7).Draw(t, "severity"))
	from := base + rapid.Int64Range(-100, int64(m.applied.NextEvent)).Draw(t, "from")*int64(time.Millisecond)
	q := futago.EventQuery{MaxSeverity: &sev, From: time.Unix(0, from), Limit: rapid.IntRange(1, 500).Draw(t, "limit"), Ascending: rapid.Bool().Draw(t, "asc")}
	if rapid.Bool().Draw(t, "custom") {
		q.Kinds, sev, from = []futago.Kind{futago.KindCustomTrap}, 7, 0
		q.From = time.Time{}
	}
	var want []uint64
	for id, e := range m.events {
		if e.Severity <= sev && e.At >= from && (len(q.Kinds) == 0 || e.Kind == q.Kinds[0]) {
			want = append(want, id)
		}
	}
	slices.Sort(want)
	if !q.Ascending {
		slices.Reverse(want)
	}
	var got []uint64
	for {
		p, err := s.Events(t.Context(), q)
		if err != nil || !p.Complete {
			t.Fatal(err, p.Complete)
		}
		got = append(got, ids(p)...)
		if p.Next == 0 {
			break
		}
		q.Before, q.After = p.Next, 0
		if q.Ascending {
			q.Before, q.After = 0, p.Next
		}
	}
	if !slices.Equal(want, got) {
		t.Fatalf("pages have %d events, want %d", len(got), len(want))
	}
}

func sorted[V any](m map[string]V) (list []V) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[k])
	}
	return list
}

func TestStore_Model(t *testing.T) {
	top, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(top, fmt.Sprint(runs))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		o := Options{Path: dir + "/futago.db", ClusterID: "c"}
		s, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close() }()
		m := newModel()
		actions := map[string]func(*rapid.T){
			"transaction": func(t *rapid.T) {
				tx, err := s.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				next := m.clone()
				for range rapid.IntRange(1, 6).Draw(t, "changes") {
					if err := next.change(t, tx); err != nil {
						t.Fatal(err)
					}
				}
				next.inside(t, tx)
				if rapid.IntRange(0, 3).Draw(t, "end") == 0 {
					tx.Rollback()
					return
				}
				next.applied.Index++
				next.applied.Hash[3]++
				if err := tx.Commit(next.applied); err != nil {
					t.Fatal(err)
				}
				m = next
			},
			"reopen": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			},
			"restore": func(t *rapid.T) {
				cp, err := s.Backup(t.Context(), dir+"/copy")
				if err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "further") { // what comes after the copy goes
					tx, err := s.Begin(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if err := tx.InsertEvents(rows(m.applied.NextEvent, 50)); err != nil {
						t.Fatal(err)
					}
					if err := tx.Commit(Applied{Index: m.applied.Index + 1, NextEvent: m.applied.NextEvent + 50}); err != nil {
						t.Fatal(err)
					}
				}
				a, err := s.Restore(t.Context(), dir+"/copy", cp.Sum)
				if err != nil || a != m.applied {
					t.Fatal(a, err)
				}
			},
			"check": func(t *rapid.T) {
				if err := s.Checkpoint(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
		}
		// Not Repeat: its runs are long, and each step here flushes a disk.
		names := append([]string{"transaction", "transaction", "transaction"}, slices.Sorted(maps.Keys(actions))...)
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 1, 10).Draw(t, "actions") {
			actions[name](t)
			m.outside(t, s)
		}
	})
}
