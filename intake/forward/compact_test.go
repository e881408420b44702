package forward

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// pair makes a batch of one manager; each key stands for a body, each At for a copy.
func compactBatch(m futago.MemberID, first uint64, at time.Duration, keys ...byte) *command.TrapBatch {
	b := &command.TrapBatch{Member: m, Spool: command.ID{m[0]}, First: first}
	for _, k := range keys {
		i := slices.IndexFunc(b.Bodies, func(x command.Body) bool { return x.Key == futago.Key{k} })
		if i < 0 {
			i = len(b.Bodies)
			b.Bodies = append(b.Bodies, command.Body{Key: futago.Key{k}, Kind: futago.KindSyslog, Trap: make([]byte, 100)})
		}
		b.Copies = append(b.Copies, command.Copy{Body: uint32(i), At: testBase.Add(at).UnixNano()})
	}
	return b
}

// omitted lists the keys whose bodies were left out.
func omitted(b *command.TrapBatch) string {
	var ks []byte
	for i := range b.Bodies {
		if len(b.Bodies[i].Trap) == 0 {
			ks = append(ks, b.Bodies[i].Key[0])
		}
	}
	return string(ks)
}

func TestCompactor(t *testing.T) {
	type step struct {
		term  uint64
		m     futago.MemberID
		first uint64
		at    time.Duration
		keys  string
		want  string
	}
	const a, b = futago.MemberA, futago.MemberB
	for name, steps := range map[string][]step{
		"the second manager's copies pair": {{1, a, 1, 0, "xyz", ""}, {1, b, 1, 1, "yx", "yx"}, {1, b, 3, 1, "z", "z"}},
		"in both directions":               {{1, a, 1, 0, "x", ""}, {1, b, 1, 0, "xy", "x"}, {1, a, 2, 0, "y", "y"}},
		"a repeat needs its own":           {{1, a, 1, 0, "x", ""}, {1, b, 1, 0, "x", "x"}, {1, b, 2, 0, "x", ""}, {1, a, 2, 0, "x", "x"}},
		"more copies than there are":       {{1, a, 1, 0, "x", ""}, {1, b, 1, 0, "xx", ""}},
		"as many copies as there are":      {{1, a, 1, 0, "xx", ""}, {1, a, 3, 0, "x", ""}, {1, b, 1, 0, "xxx", "x"}},
		"one manager alone":                {{1, a, 1, 0, "x", ""}, {1, a, 2, 0, "x", ""}},
		"long after":                       {{1, a, 1, 0, "x", ""}, {1, b, 1, time.Minute, "x", ""}, {1, a, 2, time.Minute, "x", "x"}},
		"late replay":                      {{1, a, 1, 0, "x", ""}, {1, a, 2, time.Second, "y", ""}, {1, b, 1, 0, "x", "x"}},
		"new term":                         {{1, a, 1, 0, "x", ""}, {2, b, 1, 0, "x", ""}},
		"repetition is whole":              {{1, a, 1, 0, "x", ""}, {1, b, 1, 0, "x", "x"}, {1, b, 1, 0, "x", ""}},
		"repetition is counted once":       {{1, a, 1, 0, "x", ""}, {1, a, 1, 0, "x", ""}, {1, b, 1, 0, "x", "x"}, {1, b, 2, 0, "x", ""}},
		"repetition in part is whole":      {{1, a, 1, 0, "xy", ""}, {1, b, 1, 0, "x", "x"}, {1, b, 1, 0, "xy", ""}},
		"the third vote has no slot":       {{1, "w", 1, 0, "x", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCompactor(1 << 20)
			for i, s := range steps {
				tb := compactBatch(s.m, s.first, s.at, []byte(s.keys)...)
				c.Compact(s.term, tb)
				if got := omitted(tb); got != s.want {
					t.Fatalf("step %d: left out %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

func TestCompactor_Bounded(t *testing.T) {
	c := NewCompactor(8000)
	for i := range 10000 {
		b := compactBatch(futago.MemberA, uint64(i+1), 0, 1)
		b.Bodies[0].Key = futago.Key{1, byte(i), byte(i >> 8)}
		c.Compact(1, b)
		if n := len(c.new) + len(c.old); n > 2*c.limit {
			t.Fatalf("%d keys, limit %d each", n, c.limit)
		}
	}
	b := compactBatch(futago.MemberB, 1, 0, 1)
	b.Bodies[0].Key = futago.Key{1, 9999 & 0xff, 9999 >> 8}
	if c.Compact(1, b); len(b.Bodies[0].Trap) != 0 {
		t.Error("forgot the newest")
	}
}

// Whatever the order, the compactor never leaves a body out of the first batch
// of a term that has a key: such a body is certainly needed.
func TestCompactor_NeverTheFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCompactor(rapid.IntRange(0, 20000).Draw(t, "bytes"))
		seen := map[byte]bool{}
		next := map[futago.MemberID]uint64{"a": 1, "b": 1}
		for range rapid.IntRange(1, 50).Draw(t, "batches") {
			m := rapid.SampledFrom([]futago.MemberID{"a", "b"}).Draw(t, "member")
			keys := rapid.SliceOfN(rapid.ByteRange('a', 'h'), 1, 6).Draw(t, "keys")
			at := time.Duration(rapid.IntRange(0, 100).Draw(t, "at")) * time.Second
			b := compactBatch(m, next[m], at, keys...)
			next[m] += uint64(len(keys))
			c.Compact(1, b)
			for _, k := range omitted(b) {
				if !seen[byte(k)] {
					t.Fatalf("%c was left out of the first batch with it", k)
				}
			}
			for _, k := range keys {
				seen[k] = true
			}
		}
	})
}

// Both managers receive the same traps: the log takes how much of the room?
func TestCompactor_Halves(t *testing.T) {
	a, b := testBuilder(plainDecoders), testBuilder(plainDecoders)
	a.member = futago.MemberA
	c := NewCompactor(DefaultCompactorBytes)
	plainBytes, compactBytes := 0, 0
	for i := 0; i < 40000; i += 1000 {
		for _, m := range []*builder{a, b} {
			for _, tb := range m.build(spoolBatch(m.member, i+1, i+1000)) {
				plainBytes += encoded(t, tb)
				c.Compact(1, tb)
				compactBytes += encoded(t, tb)
			}
		}
	}
	ratio := float64(compactBytes) / float64(plainBytes)
	t.Logf("%d bytes in the log instead of %d: %.0f %%; %+v", compactBytes, plainBytes, 100*ratio, c.Stats())
	if ratio > 0.7 {
		t.Errorf("the log is at %.0f %%", 100*ratio)
	}
}

func encoded(t testing.TB, b *command.TrapBatch) int {
	t.Helper()
	data, err := command.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	return len(data)
}

func BenchmarkCompactor(b *testing.B) {
	c := NewCompactor(DefaultCompactorBytes)
	n := 0
	for b.Loop() {
		b.StopTimer()
		var tbs [2]*command.TrapBatch
		for s := range tbs {
			tb := &command.TrapBatch{Member: futago.MemberOfSlot(s), Spool: command.ID{byte(s) + 1}, First: uint64(n + 1)}
			for i := range 1000 {
				k := futago.NewKey(futago.KindSyslog, rec(1).Source.Addr(), fmt.Append(nil, n+i))
				tb.Bodies = append(tb.Bodies, command.Body{Key: k, Trap: []byte{1}})
				tb.Copies = append(tb.Copies, command.Copy{Body: uint32(i), At: int64(n)})
			}
			tbs[s] = tb
		}
		n += 1000
		b.StartTimer()
		c.Compact(1, tbs[0])
		c.Compact(1, tbs[1])
	}
	b.ReportMetric(float64(b.N)*2000/b.Elapsed().Seconds(), "copies/s")
}
