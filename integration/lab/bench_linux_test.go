package lab_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/futago/futago/integration/lab"
)

// BenchmarkFrames measures how many datagrams per second a fabric carries from
// one host to another, one by one, with the receiver in the same process.
func BenchmarkFrames(b *testing.B) {
	for name, fab := range map[string]lab.Fabric{"bridge": lab.Bridge, "switch": lab.Switch} {
		for _, size := range []int{100, 1400} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				l, err := lab.Open(lab.Config{Fabric: fab, Hosts: []string{"a", "b"}})
				if err != nil {
					b.Skip(err)
				}
				defer l.Close()
				rx, err := l.Host("b").ListenPacket(b.Context(), "udp4", ":9")
				if err != nil {
					b.Fatal(err)
				}
				defer rx.Close()
				if u, ok := rx.(*net.UDPConn); ok {
					_ = u.SetReadBuffer(4 << 20)
				}
				tx, err := l.Host("a").DialContext(b.Context(), "udp4", l.Host("b").AddrPort(9).String())
				if err != nil {
					b.Fatal(err)
				}
				defer tx.Close()
				got := make(chan int)
				go func() {
					n, buf := 0, make([]byte, 2048)
					for {
						if _, _, err := rx.ReadFrom(buf); err != nil {
							got <- n
							return
						}
						n++
					}
				}()
				payload := make([]byte, size)
				start := time.Now()
				sent := 0
				for b.Loop() {
					if _, err := tx.Write(payload); err != nil {
						b.Fatal(err)
					}
					sent++
				}
				_ = rx.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				n := <-got
				b.ReportMetric(float64(n)/(time.Since(start)-50*time.Millisecond).Seconds(), "received/s")
				b.ReportMetric(100*float64(sent-n)/float64(sent), "%lost")
			})
		}
	}
}
