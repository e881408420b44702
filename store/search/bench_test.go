package search

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store"
)

// benchEvent is an event as a data centre sends it: a few hundred hosts, a few
// dozen message shapes with numbers and addresses in them, rare ones among them.
func benchEvent(r *rand.Rand, id uint64) store.EventRow {
	host := int(r.ExpFloat64() * 60)
	src := netip.AddrFrom4([4]byte{10, 1, byte(host >> 8), byte(host)})
	shapes := []string{
		"kernel: eth%d: link is down, carrier lost on port %d",
		"sshd[%d]: Accepted publickey for operator from 10.9.%d.7 port 51022 ssh2",
		"%%LINEPROTO-5-UPDOWN: Line protocol on Interface GigabitEthernet0/%d, changed state to up (%d)",
		"systemd[%d]: Started Session %d of user root.",
		"ファイアウォールで通信を遮断しました 番号 %d ポート %d",
		"postfix/smtpd[%d]: connect from mail%d.example.net[203.0.113.9]",
		"データベース接続プール使用率 %d パーセント、待ち %d 件",
	}
	m := fmt.Sprintf(shapes[r.IntN(len(shapes))], r.IntN(65536), r.IntN(1000))
	sev := futago.SeverityInfo - futago.Severity(r.IntN(3))
	if id%100_003 == 0 {
		m, sev = m+" hypervisor panic 電源障害", futago.SeverityEmergency
	}
	if id%1_000_003 == 0 {
		src = netip.MustParseAddr("198.51.100.77")
	}
	at := base + int64(id)*int64(100*time.Microsecond) + int64(r.IntN(int(time.Second)))
	t := futago.Trap{
		Kind: futago.KindSyslog, Transport: futago.TransportUDP, Source: netip.AddrPortFrom(src, 514),
		Severity: sev, Parsed: true, Charset: "utf-8", Host: fmt.Sprintf("host%03d", host), Message: m,
		Raw: fmt.Appendf(nil, "<30>Nov 22 03:00:00 host%03d %s", host, m),
		Syslog: &futago.SyslogFields{
			Format: "rfc3164", Facility: 3, HasPRI: true, Time: "Nov 22 03:00:00", Timestamp: time.Unix(0, at),
		},
	}
	e := store.EventRow{
		ID: id, At: at, Kind: t.Kind, Severity: sev, Source: src, Reason: futago.ReasonPaired,
		Count: [2]uint64{1, 1}, First: [2]int64{at, at}, Last: [2]int64{at, at},
		Trap: command.AppendTrap(nil, &t),
	}
	e.Key[0], e.Key[1], e.Key[2], e.Key[3] = byte(id), byte(id>>8), byte(id>>16), byte(id>>24)
	return e
}

// BenchmarkPage measures pages of 100 events. FUTAGO_BENCH_EVENTS sets the size
// of the history, 200000 by default, and FUTAGO_BENCH_DIR where it lies.
func BenchmarkPage(b *testing.B) {
	size := uint64(200_000)
	if v, err := strconv.ParseUint(os.Getenv("FUTAGO_BENCH_EVENTS"), 10, 64); err == nil {
		size = v
	}
	dir := b.TempDir()
	if d := os.Getenv("FUTAGO_BENCH_DIR"); d != "" {
		dir = filepath.Join(d, fmt.Sprint("futago-bench-", os.Getpid()))
		if err := os.Mkdir(dir, 0o700); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
	}
	s := openStore(b, dir)
	r := rand.New(rand.NewPCG(1, 2))
	start := time.Now()
	list := make([]store.EventRow, 0, 2000)
	for id := uint64(1); id <= size; {
		list = list[:0]
		for ; id <= size && len(list) < cap(list); id++ {
			list = append(list, benchEvent(r, id))
		}
		tx, err := s.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := tx.InsertEvents(list); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(store.Applied{Index: id, NextEvent: id}); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("made %d events of about %d bytes in %v", size, len(list[0].Trap), time.Since(start).Round(time.Millisecond))
	x := openIndex(b, s)
	start = time.Now()
	index(b, x, size-2000)
	took := time.Since(start)
	b.Logf("indexed in %v: %.1f µs per event", took.Round(time.Millisecond), float64(took.Microseconds())/float64(size))
	for _, p := range []string{s.Path(), x.o.Path} {
		if fi, err := os.Stat(p); err == nil {
			b.Logf("%s: %d MB, %d bytes per event", fi.Name(), fi.Size()>>20, uint64(fi.Size())/size)
		}
	}

	half := time.Unix(0, base).Add(time.Duration(size/2) * 100 * time.Microsecond)
	emerg, notice := futago.SeverityEmergency, futago.SeverityNotice
	for _, c := range []struct {
		name string
		q    futago.EventQuery
	}{
		{"newest", futago.EventQuery{}},
		{"deep-cursor", futago.EventQuery{Before: size / 3}},
		{"time-range", futago.EventQuery{From: half, To: half.Add(time.Minute)}},
		{"common-word", futago.EventQuery{Text: "connect"}},
		{"common-word-old", futago.EventQuery{Text: "connect", To: half}},
		{"rare-word", futago.EventQuery{Text: "hypervisor"}},
		{"absent-word", futago.EventQuery{Text: "nowhere"}},
		{"rare-and-common", futago.EventQuery{Text: "panic link"}},
		{"number", futago.EventQuery{Text: "54321"}},
		{"prefix", futago.EventQuery{Text: "hyperv*"}},
		{"common-prefix", futago.EventQuery{Text: "co*"}},
		{"short-prefix-absent", futago.EventQuery{Text: "1* nowhere"}},
		{"phrase", futago.EventQuery{Text: `"link is down"`}},
		{"phrase-rare", futago.EventQuery{Text: `"carrier lost on port 77 hypervisor"`}},
		{"address", futago.EventQuery{Text: "10.9.77.7"}},
		{"japanese-common", futago.EventQuery{Text: "通信を遮断"}},
		{"japanese-rare", futago.EventQuery{Text: "電源障害"}},
		{"japanese-one-char", futago.EventQuery{Text: "源"}},
		{"source-rare", futago.EventQuery{Source: netip.MustParsePrefix("198.51.100.77/32")}},
		{"source-common", futago.EventQuery{Source: netip.MustParsePrefix("10.1.0.7/32")}},
		{"source-net", futago.EventQuery{Source: netip.MustParsePrefix("198.51.100.0/24")}},
		{"host", futago.EventQuery{Host: "host700"}},
		{"severity-rare", futago.EventQuery{MaxSeverity: &emerg}},
		{"severity-none-in-range", futago.EventQuery{MaxSeverity: &emerg, From: half, To: half.Add(time.Second)}},
		{"severity-common", futago.EventQuery{MaxSeverity: &notice}},
		{"kind-absent", futago.EventQuery{Kinds: []futago.Kind{futago.KindCustomTrap}}},
		{"word-in-time-range", futago.EventQuery{Text: "postfix", From: half, To: half.Add(10 * time.Second)}},
		{"rare-in-time-range", futago.EventQuery{Text: "hypervisor", From: half, To: half.Add(time.Minute)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var p futago.EventPage
			for b.Loop() {
				var err error
				if p, err = x.Events(b.Context(), c.q); err != nil {
					b.Fatal(err)
				}
			}
			complete := 0.0
			if p.Complete {
				complete = 1
			}
			b.ReportMetric(float64(len(p.Events)), "events")
			b.ReportMetric(complete, "complete")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/op")
		})
	}
}
