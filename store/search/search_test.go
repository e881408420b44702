package search

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const base = int64(1_763_800_000_000_000_000)

var vocabulary = []string{
	"alpha", "alphabet", "beta", "gamma7", "10.0.0.1", "10.0.0.2", "1.3.6.1.6.3.1.1.5.3", "link-down", "link", "down",
	"Error", "回線断", "回線", "断線復旧", "障害", "ルータ", "障", "電源ユニット障害", "ＦＵＬＬ",
}

// event makes the event of an id: words of the vocabulary, some rare ones, and
// times that are only roughly in order.
func event(id uint64) (store.EventRow, futago.Trap) {
	r := rand.New(rand.NewPCG(id, 7))
	words := make([]string, 0, 8)
	for range 1 + r.IntN(6) {
		words = append(words, vocabulary[r.IntN(len(vocabulary))])
	}
	if id%(97*stride) == 1 {
		words = append(words, "needle")
	}
	words = append(words, fmt.Sprintf("n%d", id))
	kind := futago.KindSyslog
	if r.IntN(50) == 0 {
		kind = futago.KindSNMPTrap
	}
	src := netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(2)), byte(r.IntN(200))})
	if r.IntN(100) == 0 {
		src = netip.MustParseAddr("2001:db8::7")
	}
	at := base + int64(id)*int64(time.Second) - int64(r.IntN(30))*int64(time.Minute)
	t := futago.Trap{
		Kind: kind, Transport: futago.TransportUDP, Source: netip.AddrPortFrom(src, 514),
		Severity: futago.Severity(7 - min(7, r.IntN(40)/4)), Parsed: true,
		Message: strings.Join(words, " "), Raw: []byte("x"),
	}
	if r.IntN(3) == 0 {
		t.Host = fmt.Sprintf("Router%d.example", r.IntN(20))
	}
	return store.EventRow{
		ID: id, At: at, Kind: kind, Severity: t.Severity, Source: src,
		Key: futago.NewKey(kind, src, []byte(t.Message)), Reason: futago.ReasonFirst,
		Count: [2]uint64{1, 0}, First: [2]int64{at}, Last: [2]int64{at},
		Trap: command.AppendTrap(nil, &t),
	}, t
}

type doc struct {
	row  store.EventRow
	trap futago.Trap
}

// stride leaves gaps between ids, so that few events fill several segments.
const stride = 11

// at is the greatest id that the tests use up to n.
func at(n uint64) uint64 { return n - (n-1)%stride }

// fill commits the events with ids from first to last that are at the stride,
// and returns them.
func fill(t testing.TB, s *store.Store, first, last uint64) []doc {
	t.Helper()
	return fillEvery(t, s, stride, at(first+stride-1), last)
}

func fillEvery(t testing.TB, s *store.Store, step, id, last uint64) (docs []doc) {
	t.Helper()
	for id <= last {
		var list []store.EventRow
		for ; id <= last && len(list) < 2000; id += step {
			r, trap := event(id)
			docs = append(docs, doc{r, trap})
			list = append(list, r)
		}
		tx, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.InsertEvents(list); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(store.Applied{Index: id, NextEvent: id - step + 1}); err != nil {
			t.Fatal(err)
		}
	}
	return docs
}

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "futago.db"), Budget: time.Hour})
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

func openIndex(t testing.TB, s *store.Store) *Index {
	t.Helper()
	x, err := Open(t.Context(), Options{
		Path: filepath.Join(filepath.Dir(s.Path()), "search.db"), Store: s,
	})
	if err != nil {
		t.Fatal(err)
	}
	x.o.Budget = time.Hour
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// index indexes up to id without the rate limit.
func index(t testing.TB, x *Index, id uint64) {
	t.Helper()
	for x.Indexed() < id {
		n, err := x.step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
}

// clause is a generated part of a query with its plain meaning.
type clause struct {
	typed string
	want  func(words []string) bool
}

// words is the naive view of a message: what stands between spaces, hyphens
// opened, in lower case.
func words(message string) []string {
	message = strings.ReplaceAll(message, "ＦＵＬＬ", "full")
	return strings.Fields(strings.ToLower(strings.ReplaceAll(message, "-", " ")))
}

func sequence(words, want []string, prefix bool) bool {
	for i := range words {
		ok := i+len(want) <= len(words)
		for k := 0; ok && k < len(want); k++ {
			ok = words[i+k] == want[k]
			if prefix && k == len(want)-1 {
				ok = strings.HasPrefix(words[i+k], want[k])
			}
		}
		if ok {
			return true
		}
	}
	return false
}

func genClause() *rapid.Generator[clause] {
	return rapid.Custom(func(t *rapid.T) clause {
		switch rapid.IntRange(0, 4).Draw(t, "form") {
		case 0:
			w := rapid.SampledFrom([]string{"alpha", "ALPHA", "beta", "10.0.0.1", "needle", "link-down", "error", "full", "zzz", "n3202"}).Draw(t, "word")
			return clause{w, func(ws []string) bool { return sequence(ws, words(w), false) }}
		case 1:
			w := rapid.SampledFrom([]string{"al", "alpha", "10.0.0", "n99", "li", "1.3.6"}).Draw(t, "prefix")
			return clause{w + "*", func(ws []string) bool { return sequence(ws, []string{w}, true) }}
		case 2:
			w := rapid.SampledFrom([]string{"alpha beta", "link down", "Down Error", "beta 10.0.0.1"}).Draw(t, "phrase")
			return clause{`"` + w + `"`, func(ws []string) bool { return sequence(ws, words(w), false) }}
		case 3:
			w := rapid.SampledFrom([]string{"回線", "線断", "障害", "障", "復旧", "断", "ユニット", "ルータ", "害", "電源障害"}).Draw(t, "japanese")
			return clause{w, func(ws []string) bool {
				for _, x := range ws {
					if strings.Contains(x, w) {
						return true
					}
				}
				return false
			}}
		default:
			w := rapid.SampledFrom([]string{`"`, "*", "-", `""`, "(", "()", "^", `\`, "'", "。"}).Draw(t, "noise")
			return clause{w + " ", func([]string) bool { return true }}
		}
	})
}

func genQuery(newest uint64) *rapid.Generator[func() (futago.EventQuery, func(doc) bool)] {
	return rapid.Custom(func(t *rapid.T) func() (futago.EventQuery, func(doc) bool) {
		q := futago.EventQuery{
			Ascending: rapid.Bool().Draw(t, "ascending"), Limit: rapid.SampledFrom([]int{1, 7, 100, 1000}).Draw(t, "limit"),
		}
		var conds []func(doc) bool
		var typed []string
		for _, c := range rapid.SliceOfN(genClause(), 0, 3).Draw(t, "clauses") {
			// An open quote would swallow the clauses after it.
			if strings.Count(c.typed, `"`)%2 == 1 {
				c.typed += `"`
			}
			typed = append(typed, c.typed)
			conds = append(conds, func(d doc) bool { return c.want(words(d.trap.Message)) })
		}
		q.Text = strings.Join(typed, " ")
		if rapid.IntRange(0, 2).Draw(t, "timed") == 0 {
			from := base + rapid.Int64Range(0, int64(newest)).Draw(t, "from")*int64(time.Second)
			to := from + rapid.Int64Range(1, 20_000).Draw(t, "span")*int64(time.Second)
			q.From, q.To = time.Unix(0, from), time.Unix(0, to)
			conds = append(conds, func(d doc) bool { return d.row.At >= from && d.row.At < to })
		}
		switch rapid.IntRange(0, 5).Draw(t, "extra") {
		case 0:
			q.Source = netip.MustParsePrefix(rapid.SampledFrom([]string{
				"192.0.1.17/32", "192.0.0.0/24", "192.0.0.64/26", "0.0.0.0/0", "2001:db8::/32", "203.0.113.0/24",
			}).Draw(t, "source"))
			conds = append(conds, func(d doc) bool { return q.Source.Contains(d.row.Source) })
		case 1:
			q.Host = rapid.SampledFrom([]string{"router3.example", "ROUTER11.EXAMPLE", "nobody"}).Draw(t, "host")
			conds = append(conds, func(d doc) bool { return strings.EqualFold(d.trap.Host, q.Host) })
		case 2:
			q.Kinds = []futago.Kind{futago.KindSNMPTrap}
			conds = append(conds, func(d doc) bool { return d.row.Kind == futago.KindSNMPTrap })
		case 3:
			v := futago.Severity(rapid.IntRange(0, 7).Draw(t, "severity"))
			q.MaxSeverity = &v
			conds = append(conds, func(d doc) bool { return d.row.Severity <= v })
		}
		if rapid.Bool().Draw(t, "cursor") {
			q.Before = rapid.Uint64Range(1, newest+10).Draw(t, "before")
			conds = append(conds, func(d doc) bool { return d.row.ID < q.Before })
		}
		if rapid.Bool().Draw(t, "cursor2") {
			q.After = rapid.Uint64Range(1, newest+10).Draw(t, "after")
			conds = append(conds, func(d doc) bool { return d.row.ID > q.After })
		}
		return func() (futago.EventQuery, func(doc) bool) {
			return q, func(d doc) bool {
				for _, c := range conds {
					if !c(d) {
						return false
					}
				}
				return true
			}
		}
	})
}

// TestIndex_FindsWhatAPlainFilterFinds compares pages with a filter over a
// slice: by way of two stored segments, one in memory, and events not indexed.
func TestIndex_FindsWhatAPlainFilterFinds(t *testing.T) {
	s := openStore(t, t.TempDir())
	newest := at(2*segSize + 4000)
	docs := fill(t, s, 1, newest)
	x := openIndex(t, s)
	x.maxTerms = 700 // several parts to a segment
	index(t, x, newest-2500)
	if x.parts[0] < 3 {
		t.Fatalf("segment 0 has %d parts", x.parts[0])
	}
	if x.tail.seg != 2 {
		t.Fatalf("the tail is segment %d", x.tail.seg)
	}
	rapid.Check(t, func(t *rapid.T) {
		q, want := genQuery(newest).Draw(t, "query")()
		var ids []uint64
		for i := range docs {
			d := docs[i]
			if !q.Ascending {
				d = docs[len(docs)-1-i]
			}
			if want(d) {
				if ids = append(ids, d.row.ID); len(ids) == q.Limit {
					break
				}
			}
		}
		direct, err := s.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		found, err := x.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string]futago.EventPage{"scan": direct, "index": found} {
			if len(p.Events) != len(ids) {
				t.Fatalf("%s: %+v finds %d events, want %d", name, q, len(p.Events), len(ids))
			}
			for i := range ids {
				if p.Events[i].ID != ids[i] {
					t.Fatalf("%s: %q: result %d is event %d, want %d", name, q.Text, i, p.Events[i].ID, ids[i])
				}
			}
			if !p.Complete || (p.Next != 0) != (len(ids) == q.Limit) {
				t.Fatalf("%s: complete %v, next %d with %d of %d", name, p.Complete, p.Next, len(ids), q.Limit)
			}
		}
	})
}

// all follows the pages of a query to the end.
func all(t *testing.T, x *Index, q futago.EventQuery) (ids []uint64, incomplete int) {
	t.Helper()
	for range 100_000 {
		p, err := x.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.Events {
			ids = append(ids, p.Events[i].ID)
		}
		if !p.Complete {
			incomplete++
		}
		if p.Next == 0 {
			return ids, incomplete
		}
		if p.Next == q.Before || p.Next == q.After {
			t.Fatalf("the cursor stays at %d", p.Next)
		}
		if q.Ascending {
			q.After = p.Next
		} else {
			q.Before = p.Next
		}
	}
	t.Fatal("no end")
	return nil, 0
}

func TestIndex_PagesGoOnWhereTheBudgetEnded(t *testing.T) {
	for name, step := range map[string]uint64{"several segments": stride, "without gaps": 1} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			newest := at(4000 * step)
			fillEvery(t, s, step, 1, newest)
			x := openIndex(t, s)
			index(t, x, newest-800*step)
			for _, asc := range []bool{false, true} {
				q := futago.EventQuery{Text: "n*", Ascending: asc, Limit: lookupBatch + 50} // every event
				x.o.Budget = time.Hour
				want, n := all(t, x, q)
				if n != 0 {
					t.Fatalf("%d pages incomplete without need", n)
				}
				x.o.Budget = time.Nanosecond
				got, n := all(t, x, q)
				if n == 0 {
					t.Error("no page was cut short")
				}
				if !slices.Equal(got, want) || len(want) < lookupBatch {
					t.Errorf("ascending %v: %d events in short pages, want %d", asc, len(got), len(want))
				}
			}
		})
	}
}

// TestIndex_EachFilterAlone asks for everything that one filter wants.
func TestIndex_EachFilterAlone(t *testing.T) {
	s := openStore(t, t.TempDir())
	docs := fill(t, s, 1, at(segSize+3000))
	x := openIndex(t, s)
	index(t, x, segSize+1000)
	some := docs[len(docs)/2]
	sev := futago.SeverityCritical
	one := netip.PrefixFrom(some.row.Source, some.row.Source.BitLen())
	for name, c := range map[string]struct {
		q    futago.EventQuery
		want func(doc) bool
	}{
		"one source": {futago.EventQuery{Source: one}, func(d doc) bool { return d.row.Source == some.row.Source }},
		"mapped source": {
			futago.EventQuery{Source: netip.PrefixFrom(netip.AddrFrom16(one.Addr().As16()), 128)},
			func(d doc) bool { return d.row.Source == some.row.Source },
		},
		"network": {
			futago.EventQuery{Source: netip.MustParsePrefix("192.0.1.64/26")},
			func(d doc) bool { return netip.MustParsePrefix("192.0.1.64/26").Contains(d.row.Source) },
		},
		"version 6": {futago.EventQuery{Source: netip.MustParsePrefix("::/0")}, func(d doc) bool { return d.row.Source.Is6() }},
		"host":      {futago.EventQuery{Host: " ROUTER7.example"}, func(d doc) bool { return d.trap.Host == "Router7.example" }},
		"severity":  {futago.EventQuery{MaxSeverity: &sev}, func(d doc) bool { return d.row.Severity <= sev }},
		"kinds": {
			futago.EventQuery{Kinds: []futago.Kind{futago.KindSNMPTrap, futago.KindInternal}},
			func(d doc) bool { return d.row.Kind == futago.KindSNMPTrap },
		},
		"prefix": {futago.EventQuery{Text: "gam*"}, func(d doc) bool { return strings.Contains(d.trap.Message, "gamma7") }},
	} {
		for _, asc := range []bool{false, true} {
			c.q.Ascending, c.q.Limit = asc, 1000
			var want []uint64
			for _, d := range docs {
				if c.want(d) {
					want = append(want, d.row.ID)
				}
			}
			if !asc {
				slices.Reverse(want)
			}
			if got, _ := all(t, x, c.q); !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("%s, ascending %v: %d events, want %d", name, asc, len(got), len(want))
			}
		}
	}
}

func TestIndex_SurvivesReopeningAndDamage(t *testing.T) {
	s := openStore(t, t.TempDir())
	newest := at(segSize + 3000)
	fill(t, s, 1, newest)
	x := openIndex(t, s)
	x.maxTerms = 1000
	index(t, x, newest)
	indexed := x.Indexed()
	q := futago.EventQuery{Text: "needle"}
	want, _ := all(t, x, q)
	if len(want) != int(newest/(97*stride))+1 {
		t.Fatalf("%d needles", len(want))
	}
	path := x.o.Path
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}

	x = openIndex(t, s)
	if x.Indexed() < segSize-stride || x.Indexed() > indexed {
		t.Errorf("after reopening events up to %d are indexed, it was %d", x.Indexed(), indexed)
	}
	if got, _ := all(t, x, q); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after reopening: %v, want %v", got, want)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}

	// Damage in the middle: a block fails its sum when it is read.
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 10; i < len(b); i += 512 {
		b[i] ^= 0x55
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	x = openIndex(t, s)
	if got, _ := all(t, x, q); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("with a damaged index: %v, want %v", got, want)
	}
	if x.Indexed() != 0 && !x.damaged.Load() {
		t.Error("the damage was not noticed")
	}
	if err := x.rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	index(t, x, newest)
	if got, _ := all(t, x, q); fmt.Sprint(got) != fmt.Sprint(want) || x.Indexed() != newest {
		t.Errorf("after building anew: %v, want %v", got, want)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}

	// No database at all.
	if err := os.WriteFile(path, []byte("this is no database, and longer than a header is\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x = openIndex(t, s)
	if got, _ := all(t, x, q); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("with a foreign file: %v, want %v", got, want)
	}
}

func TestIndex_DropsWhatAnotherHistoryLeft(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	fill(t, s, 1, 2*segSize+100)
	x := openIndex(t, s)
	index(t, x, 2*segSize+100)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// The same ids up to the first segment, a shorter history then.
	for _, f := range []string{"futago.db", "futago.db-wal", "futago.db-shm"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	s = openStore(t, dir)
	fill(t, s, 1, segSize+50)
	x = openIndex(t, s)
	if x.Indexed() != at(segSize-1) {
		t.Errorf("%d events taken over, want %d", x.Indexed(), at(segSize-1))
	}
	if got, _ := all(t, x, futago.EventQuery{Text: fmt.Sprintf("n%d", at(segSize+40))}); len(got) != 1 {
		t.Errorf("found %v", got)
	}
}

func TestIndex_RunFollowsTheStore(t *testing.T) {
	s := openStore(t, t.TempDir())
	x := openIndex(t, s)
	x.o.Rate = 1_000_000
	done := make(chan error, 1)
	ctx, cancel := contextOf(t)
	go func() { done <- x.Run(ctx) }()
	fill(t, s, 1, at(5000))
	await(t, func() bool { return x.Indexed() == at(5000) })
	cp, err := s.Backup(t.Context(), filepath.Join(filepath.Dir(s.Path()), "copy.db"))
	if err != nil || cp.Applied.NextEvent != at(5000)+1 {
		t.Fatal(cp, err)
	}
	fill(t, s, 5001, at(6000))
	await(t, func() bool { return x.Indexed() == at(6000) })
	// An older state comes back: the index follows, and goes on from there.
	if _, err := s.Restore(t.Context(), filepath.Join(filepath.Dir(s.Path()), "copy.db"), cp.Sum); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return x.Indexed() == at(5000) })
	fill(t, s, 5001, at(6000))
	await(t, func() bool { return x.Indexed() == at(6000) })
	x.markDamaged(errIndex) // as a query does
	await(t, func() bool { return !x.damaged.Load() && x.Indexed() == at(6000) })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

// await polls until the condition holds.
func await(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}
