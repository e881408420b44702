package thirdvote

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Run with -benchtime=20x. The metrics are the times from the death to the next
// acknowledged write, in multiples of the heartbeat time-out of the tests.
func BenchmarkFailover_LeaderDies(b *testing.B) {
	benchDeath(b, func(c *cluster) *node { return c.leader() })
}

func BenchmarkFailover_FollowerDies(b *testing.B) {
	benchDeath(b, func(c *cluster) *node { return c.leader().peer() })
}

func benchDeath(b *testing.B, victim func(*cluster) *node) {
	c := start(b)
	var took []time.Duration
	for range b.N {
		c.write()
		c.settled()
		n := victim(c)
		began := time.Now()
		n.crash()
		c.write()
		took = append(took, time.Since(began))
		n.start()
		c.settled()
	}
	c.mustHaveAll()
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[len(took)/2])/float64(time.Millisecond), "p50-ms")
	b.ReportMetric(float64(took[len(took)-1])/float64(time.Millisecond), "max-ms")
	b.ReportMetric(float64(took[len(took)/2])/float64(heartbeat), "p50-heartbeats")
}

// One write at a time, with both managers and alone: what the stub costs.
func BenchmarkWrite(b *testing.B) {
	for _, alone := range []bool{false, true} {
		b.Run(fmt.Sprintf("alone=%v", alone), func(b *testing.B) {
			c := start(b)
			if alone {
				c.leader().peer().crash()
				c.write()
			}
			l := c.leader()
			reads, _ := c.reg.Count()
			b.ResetTimer()
			began := time.Now()
			for i := range b.N {
				if err := l.raft.Apply([]byte{byte(i)}, time.Second).Error(); err != nil {
					b.Fatal(err)
				}
			}
			after, _ := c.reg.Count()
			b.ReportMetric(float64(after-reads)/time.Since(began).Seconds(), "reads/s")
		})
	}
}
