package generate_test

import (
	"net"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/integration/lab"
)

var _ generate.Network = (*lab.Host)(nil)

// A blast from a device of a lab reaches both managers.
func TestBlastInLab(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a", "b", "d1"}})
	const n = 5000
	var targets []generate.Target
	done := make(chan int, 2)
	for _, name := range []string{"a", "b"} {
		c, err := l.Host(name).ListenPacket(t.Context(), "udp4", ":514")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if u, ok := c.(*net.UDPConn); ok {
			_ = u.SetReadBuffer(4 << 20)
		}
		targets = append(targets, generate.Target{Member: futago.MemberID(name), SyslogUDP: l.Host(name).AddrPort(514)})
		go func() {
			got, buf := 0, make([]byte, 2048)
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			for got < n {
				if _, _, err := c.ReadFrom(buf); err != nil {
					break
				}
				got++
			}
			done <- got
		}()
	}
	r, err := generate.Blast{
		Flavour: generate.SyslogBSD, Targets: targets, Network: l.Host("d1"), Count: n, Rate: 20000,
	}.Send(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := <-done; got != r.Occurrences {
			t.Errorf("%d of %d arrived", got, r.Occurrences)
		}
	}
}

// BenchmarkBlastInLab sends over the kernel bridge to sockets that nobody reads.
func BenchmarkBlastInLab(b *testing.B) {
	l, err := lab.Open(lab.Config{Hosts: []string{"a", "b", "d1"}})
	if err != nil {
		b.Skip(err)
	}
	defer l.Close()
	var targets []generate.Target
	for _, name := range []string{"a", "b"} {
		c, err := l.Host(name).ListenPacket(b.Context(), "udp4", ":514")
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		targets = append(targets, generate.Target{Member: futago.MemberID(name), SyslogUDP: l.Host(name).AddrPort(514)})
	}
	r, err := generate.Blast{Flavour: generate.SyslogBSD, Targets: targets, Network: l.Host("d1"), Count: max(b.N, 1)}.Send(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(r.Rate(), "datagrams/s")
}
