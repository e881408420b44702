package syslog

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/futago/futago"
)

// null takes everything and counts it.
type null struct{ n chan int }

func (s *null) Append(recs []futago.Received) (uint64, error) {
	for i := range recs {
		recs[i].Seq = 1
	}
	s.n <- len(recs)
	return 1, nil
}

func (s *null) Idle(time.Time) {}

const benchMessage = "<86>Mar  1 18:46:11 host01 sshd[2213]: Accepted publickey for root from 192.0.2.10 port 50522 ssh2"

// BenchmarkUDP measures datagrams over loopback into a sink that counts. They
// are sent and received by turns, so that ns/op is the receiver's part.
func BenchmarkUDP(b *testing.B) {
	sink := &null{n: make(chan int, 1<<16)}
	u, err := ListenUDP(b.Context(), UDPConfig{Address: "127.0.0.1:0", Producer: sink})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = u.Close() }()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const round = 20000
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= round {
		n := min(left, round)
		b.StopTimer()
		for range n {
			if _, err := c.Write([]byte(benchMessage)); err != nil {
				b.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		b.StartTimer()
		go func() { done <- u.Run(ctx) }()
		for got := 0; got < n; {
			got += <-sink.n
		}
		b.StopTimer()
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.StopTimer()
	if st := u.Status(); st.KernelDrops > 0 {
		b.Errorf("%d dropped", st.KernelDrops)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// BenchmarkTCP measures streams over loopback, sender included.
func BenchmarkTCP(b *testing.B) {
	for _, c := range []struct{ name, frame string }{
		{"lines", benchMessage + "\n"}, {"counted", fmt.Sprintf("%d %s", len(benchMessage), benchMessage)},
	} {
		b.Run(c.name, func(b *testing.B) {
			sink := &null{n: make(chan int, 1<<16)}
			s, _ := startStream(b, StreamConfig{Appender: sink})
			conn := connect(b, s.Addr())
			const round = 500
			data := []byte(strings.Repeat(c.frame, round))
			rounds := (b.N + round - 1) / round
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for range rounds {
					if _, err := conn.Write(data); err != nil {
						b.Error(err)
						return
					}
				}
			}()
			for got := 0; got < rounds*round; {
				got += <-sink.n
			}
			b.StopTimer()
			b.ReportMetric(float64(rounds*round)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}
