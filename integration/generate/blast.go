package generate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
)

// Blast sends datagrams in batches at a rate, or as fast as it can. Each
// occurrence goes to every target.
type Blast struct {
	Flavour Flavour // one that is Datagram
	Targets []Target
	Network Network // default: Local
	Run     uint32
	// Rate is occurrences per second over all senders; 0 is as fast as possible.
	Rate float64
	// Count and Duration bound the blast; at least one must be given.
	Count    int
	Duration time.Duration
	// Repeats is the share (0 to 1) of occurrences that repeat one of the last 64
	// distinct traps.
	Repeats float64
	Seed    uint64
	// Senders is how many sockets send at once, each from a port of its own.
	// Default 1. The copies of one trap all come from the same sender.
	Senders   int
	Host      string // default "generator"
	Community string // default "public"
	SNMPUser  SNMPUser
}

// BlastResult says what a blast has sent.
type BlastResult struct {
	Run         uint32
	Occurrences int
	Datagrams   int // occurrences times targets
	Elapsed     time.Duration
	// Counts holds the true occurrences by number; index 0 is not used.
	Counts []uint32
	// Last is when the last datagram was sent.
	Last time.Time
}

// Rate is the datagrams per second.
func (r *BlastResult) Rate() float64 { return float64(r.Datagrams) / r.Elapsed.Seconds() }

// Distinct is the number of distinct traps.
func (r *BlastResult) Distinct() int { return len(r.Counts) - 1 }

// Send sends the blast. When ctx ends it stops and returns what was sent, with
// the error of ctx.
func (b Blast) Send(ctx context.Context) (*BlastResult, error) {
	switch {
	case !b.Flavour.Datagram():
		return nil, fmt.Errorf("%s is not sent as datagrams alone", b.Flavour)
	case b.Count <= 0 && b.Duration <= 0:
		return nil, errors.New("neither count nor duration is given")
	case len(b.Targets) == 0:
		return nil, errors.New("no target is given")
	case b.Repeats < 0 || b.Repeats >= 1:
		return nil, fmt.Errorf("share of repeats %v is not within 0 and 1", b.Repeats)
	}
	for i := range b.Targets {
		if err := b.Targets[i].supports(b.Flavour); err != nil {
			return nil, err
		}
	}
	if b.Network == nil {
		b.Network = Local{}
	}
	if b.Host == "" {
		b.Host = "generator"
	}
	if b.Community == "" {
		b.Community = "public"
	}
	b.Senders = max(b.Senders, 1)

	run := &blastRun{Blast: b, start: time.Now()}
	if b.Duration > 0 {
		run.end = run.start.Add(b.Duration)
	}
	senders := make([]*blastSender, b.Senders)
	for i := range senders {
		s, err := run.newSender(ctx, i)
		if err != nil {
			for _, s := range senders[:i] {
				s.conn.Close()
			}
			return nil, err
		}
		senders[i] = s
	}
	var wg sync.WaitGroup
	errs := make([]error, b.Senders)
	for i, s := range senders {
		wg.Go(func() {
			defer s.conn.Close()
			errs[i] = s.sendAll(ctx)
		})
	}
	wg.Wait()
	result := &BlastResult{Run: b.Run, Last: time.Now(), Counts: make([]uint32, run.newest.Load()+1)}
	result.Elapsed = result.Last.Sub(run.start)
	for _, s := range senders {
		result.Occurrences += s.occurrences
		for n, c := range s.counts {
			if c > 0 {
				result.Counts[n] += c
			}
		}
	}
	result.Datagrams = result.Occurrences * len(b.Targets)
	return result, errors.Join(errs...)
}

type blastRun struct {
	Blast
	start, end time.Time
	newest     atomic.Uint32 // highest number given out
	taken      atomic.Int64  // occurrences given out
	ids        atomic.Uint32
}

type blastSender struct {
	run         *blastRun
	conn        net.PacketConn
	socket      *batchSocket
	to          []*destination
	enc         *encoder
	rng         *rand.Rand
	recent      []uint32 // the last distinct numbers of this sender, a ring
	next        int
	counts      []uint32
	occurrences int
}

func (r *blastRun) newSender(ctx context.Context, index int) (*blastSender, error) {
	conn, err := r.Network.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return nil, fmt.Errorf("socket for datagrams: %w", err)
	}
	s := &blastSender{
		run: r, conn: conn,
		enc: &encoder{run: r.Run, start: r.start, host: r.Host, community: r.Community, ids: &r.ids},
		rng: rand.New(rand.NewPCG(r.Seed, uint64(index))), //nolint:gosec // not for security
	}
	if u, ok := conn.(*net.UDPConn); ok {
		_ = u.SetWriteBuffer(4 << 20)
	}
	if s.socket, err = newBatchSocket(conn); err == nil && r.Flavour == SNMPv3 {
		s.enc.usm, err = newUSM(r.SNMPUser, engineID(r.Run))
		if s.enc.usm != nil {
			s.enc.usm.nextSalt = uint64(index) << 48 //nolint:gosec // small index
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	for i := range r.Targets {
		s.to = append(s.to, newDestination(r.Targets[i].datagramAddr(r.Flavour), s.socket.socket6))
	}
	return s, nil
}

// number chooses the trap of the next occurrence.
func (s *blastSender) number() uint32 {
	if len(s.recent) > 0 && s.run.Repeats > 0 && s.rng.Float64() < s.run.Repeats {
		return s.recent[s.rng.IntN(len(s.recent))]
	}
	n := s.run.newest.Add(1)
	if len(s.recent) < 64 {
		s.recent = append(s.recent, n)
	} else {
		s.recent[s.next] = n
		s.next = (s.next + 1) % len(s.recent)
	}
	if int(n) >= len(s.counts) {
		s.counts = append(s.counts, make([]uint32, int(n)+1-len(s.counts)+len(s.counts)/4)...)
	}
	return n
}

func (s *blastSender) sendBatch(b *batch, n int, now time.Time) error {
	for i := range n {
		number := s.number()
		b.bufs[i] = s.enc.append(b.bufs[i][:0], Item{Number: number, Flavour: s.run.Flavour}, now)
		s.counts[number]++
	}
	for _, to := range s.to {
		if err := s.socket.send(b, n, to); err != nil {
			return err
		}
	}
	s.occurrences += n
	return nil
}

func (s *blastSender) sendAll(ctx context.Context) error {
	b := newBatch()
	r := s.run
	perBatch := batchSize
	if r.Rate > 0 { // at low rates, at least 500 batches a second
		perBatch = min(max(int(r.Rate/500), 1), batchSize)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		first := r.taken.Add(int64(perBatch)) - int64(perBatch)
		n := perBatch
		if r.Count > 0 {
			n = int(min(int64(n), int64(r.Count)-first))
			if n <= 0 {
				return nil
			}
		}
		now := time.Now()
		if r.Rate > 0 {
			due := r.start.Add(time.Duration(float64(first) / r.Rate * float64(time.Second)))
			if wait := due.Sub(now); wait > 0 {
				time.Sleep(wait)
				now = time.Now()
			}
		}
		if !r.end.IsZero() && now.After(r.end) {
			return nil
		}
		if err := s.sendBatch(b, n, now); err != nil {
			return err
		}
	}
}

// CountReport is the outcome of AuditCounts.
type CountReport struct {
	Sent, Recorded uint64 // occurrences
	Events         int
	Foreign        int
	// Missing and Excess count the occurrences that are recorded too seldom and
	// too often. First lists up to 20 findings.
	Missing, Excess uint64
	First           []string
}

// Err returns nil when every count is right.
func (r *CountReport) Err() error {
	if r.Missing == 0 && r.Excess == 0 {
		return nil
	}
	return fmt.Errorf("%d occurrences sent, %d recorded in %d events: %d missing, %d too many: %v",
		r.Sent, r.Recorded, r.Events, r.Missing, r.Excess, r.First)
}

// AuditCounts compares the recorded counts with those of a blast, in exact mode.
func AuditCounts(sent *BlastResult, events iter.Seq2[futago.Event, error]) (*CountReport, error) {
	r := new(CountReport)
	got := make([]uint64, len(sent.Counts))
	note := func(format string, args ...any) {
		if len(r.First) < 20 {
			r.First = append(r.First, fmt.Sprintf(format, args...))
		}
	}
	for e, err := range events {
		if err != nil {
			return nil, fmt.Errorf("read the recorded events: %w", err)
		}
		run, n, ok := FindMark([]byte(markedText(&e.Trap)))
		switch {
		case !ok || run != sent.Run:
			r.Foreign++
		case int(n) >= len(got) || n == 0:
			r.Excess += e.Count
			note("trap %d was never sent", n)
		default:
			r.Events++
			r.Recorded += e.Count
			got[n] += e.Count
		}
	}
	for n, want := range sent.Counts {
		r.Sent += uint64(want)
		switch have := got[n]; {
		case have < uint64(want):
			r.Missing += uint64(want) - have
			note("trap %d: %d of %d", n, have, want)
		case have > uint64(want):
			r.Excess += have - uint64(want)
			note("trap %d: %d, sent %d", n, have, want)
		}
	}
	r.First = slices.Clip(r.First)
	return r, nil
}
