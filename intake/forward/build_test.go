package forward

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/spool"
	"github.com/futago/futago/raftfsm/command"
)

func testBuilder(d map[futago.Kind]Decoder) *builder {
	return &builder{
		member: futago.MemberB, decoders: d, settings: func() *futago.IntakeSettings { return nil },
		maxBytes: DefaultMaxBytes, workers: 2, log: newSilent(), cache: newCache(DefaultCacheBytes),
	}
}

func TestBuild_Bodies(t *testing.T) {
	m := testBuilder(plainDecoders)
	var b spool.Batch
	b.First, b.Base, b.Watermark = 101, 100, 77
	add := func(n int, change func(*futago.Received)) {
		r := rec(n)
		if change != nil {
			change(&r)
		}
		b.Records = append(b.Records, r)
	}
	add(1, nil)
	add(2, nil)
	add(1, nil)
	add(1, func(r *futago.Received) { r.Source = netip.MustParseAddrPort("192.0.2.7:999") })        // another port: the same
	add(1, func(r *futago.Received) { r.Source = netip.MustParseAddrPort("[::ffff:192.0.2.7]:1") }) // the same
	add(1, func(r *futago.Received) { r.Source = netip.MustParseAddrPort("192.0.2.8:514") })        // another sender
	add(1, func(r *futago.Received) { r.Raw[18] = '9' })                                            // same key, other time
	add(1, func(r *futago.Received) { r.Transport = futago.TransportTCP })
	add(1, func(r *futago.Received) { r.Truncated = true })
	add(1, func(r *futago.Received) { r.Kind = futago.KindSNMPTrap })
	out := m.build(&b)
	if len(out) != 1 {
		t.Fatalf("%d batches", len(out))
	}
	tb := out[0]
	var got []uint32
	for i, c := range tb.Copies {
		got = append(got, c.Body)
		if c.At != b.Records[i].At {
			t.Errorf("copy %d arrived at %d", i, c.At)
		}
	}
	if want := "[0 1 0 0 0 2 3 4 5 6]"; fmt.Sprint(got) != want {
		t.Errorf("bodies %v, want %v", got, want)
	}
	if tb.Bodies[0].Key != tb.Bodies[3].Key || tb.Bodies[0].Key == tb.Bodies[2].Key {
		t.Error("keys")
	}
	if tb.First != 1 || tb.Watermark != 77 || tb.Member != futago.MemberB {
		t.Errorf("%+v", tb)
	}
	if m.cache.misses != 7 {
		t.Errorf("%d decoded", m.cache.misses)
	}
	// Again: nothing is decoded, the batch is the same.
	before := m.cache.misses
	again := m.build(&b)[0]
	if m.cache.misses != before || fmt.Sprint(again) != fmt.Sprint(tb) {
		t.Error("the second time differs")
	}
	// Another revision of the settings: everything is decoded anew.
	m.settings = func() *futago.IntakeSettings { return &futago.IntakeSettings{Revision: 1} }
	if m.build(&b); m.cache.misses != before+7 {
		t.Error("results of older settings were used")
	}
}

func TestBuild_Split(t *testing.T) {
	m := testBuilder(plainDecoders)
	m.maxBytes = 4000
	b := spool.Batch{Spool: command.ID{1}, First: 1, Records: recs(1, 200), Watermark: 99, Before: 42}
	next, copies := uint64(1), 0
	out := m.build(&b)
	for i, tb := range out {
		if tb.First != next {
			t.Fatalf("batch %d starts at %d, want %d", i, tb.First, next)
		}
		next += uint64(len(tb.Copies))
		copies += len(tb.Copies)
		if data, err := command.Encode(tb); err != nil || len(data) > m.maxBytes {
			t.Errorf("batch %d: %d bytes, %v", i, len(data), err)
		}
		want := int64(42)
		if i == len(out)-1 {
			want = 99
		}
		if tb.Watermark != want {
			t.Errorf("batch %d: watermark %d, want %d", i, tb.Watermark, want)
		}
	}
	if copies != 200 || len(out) < 3 {
		t.Errorf("%d copies in %d batches", copies, len(out))
	}
}

func TestBuild_BadDecoders(t *testing.T) {
	m := testBuilder(map[futago.Kind]Decoder{
		futago.KindSyslog: func(*futago.Received, *futago.IntakeSettings) (futago.Trap, futago.Key) { panic("oops") },
		futago.KindCustomTrap: func(r *futago.Received, _ *futago.IntakeSettings) (futago.Trap, futago.Key) {
			return futago.Trap{Kind: r.Kind, Source: r.Source, Severity: 200, Raw: r.Raw}, futago.Key{1}
		},
	})
	b := spool.Batch{Spool: command.ID{1}, First: 1, Records: recs(1, 4)}
	b.Records[1].Kind = futago.KindSNMPTrap
	b.Records[2].Kind = futago.KindCustomTrap
	b.Records[3].Kind = 77
	tb := m.build(&b)[0]
	if _, err := command.Encode(tb); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"the decoder failed on it", "there is no decoder for its kind", "", "there is no decoder for its kind"} {
		trap, err := command.DecodeTrap(tb.Bodies[i].Trap)
		if err != nil || trap.Problem != want || trap.Parsed || string(trap.Raw) != string(b.Records[i].Raw) {
			t.Errorf("record %d: %+v, %v", i, trap, err)
		}
	}
}

func TestCache_Bounded(t *testing.T) {
	c := newCache(100 << 10)
	for i := range 10000 {
		r := rec(i)
		e, fresh := c.get(&r)
		if !fresh {
			t.Fatal("found what was never there")
		}
		e.body.Trap = make([]byte, 100)
		c.own(e)
	}
	if c.size > c.limit || len(c.entries) < 100 || len(c.entries) > 400 {
		t.Errorf("%d bytes, %d entries", c.size, len(c.entries))
	}
	r := rec(9999)
	if _, fresh := c.get(&r); fresh {
		t.Error("the newest is gone")
	}
	r.At += cacheFor
	if _, fresh := c.get(&r); !fresh {
		t.Error("used after its time")
	}
	n, size := 0, int64(0)
	for e := c.ring.next; e != &c.ring; e = e.next {
		n++
		size += e.size
	}
	if n != len(c.entries) || size != c.size {
		t.Errorf("ring has %d entries of %d bytes, map %d of %d", n, size, len(c.entries), c.size)
	}
}
