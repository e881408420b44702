package snmptrap

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/udp"
)

// The limits on informs.
const (
	// DefaultMaxWaiting is how many informs may wait for their commitment.
	DefaultMaxWaiting = 65536
	// maxWaitingBytes bounds the memory of their answers.
	maxWaitingBytes = 64 << 20
	// remember is how long a retransmission is recognised, and how long an
	// inform waits: its sender has given up by then.
	remember = 60 * time.Second
	// maxRemembered bounds the table of informs; the oldest goes first.
	maxRemembered = 262144
	// maxReports bounds the reports sent in a second, as anyone can ask for one
	// with a forged source.
	maxReports = 2000
	// stopGrace is how long a stopping receiver goes on answering.
	stopGrace = 2 * time.Second
)

// Socket is where datagrams come from and answers go to: [udp.Conn].
type Socket interface {
	Run(ctx context.Context, handle func([]udp.Datagram) error, idle func(at time.Time)) error
	Reply(d udp.Datagram, b []byte) error
}

// Producer takes what arrived: a producer of the spool that holds the watermark.
type Producer interface {
	// Append stores records and sets their Seq to their positions, 0 where a
	// record was not stored. It keeps none of them.
	Append(recs []futago.Received) (last uint64, err error)
	Idle(at time.Time)
}

// Commits says what is committed: the spool.
type Commits interface {
	// WaitAcked returns nil once the record with the sequence number and all
	// before it are committed.
	WaitAcked(ctx context.Context, seq uint64) error
}

// Config of a [Receiver]. All fields but MaxWaiting are needed.
type Config struct {
	Socket   Socket
	Producer Producer
	Commits  Commits
	Decoder  *Decoder
	Engine   *Engine
	// Settings returns the settings in force. They are not changed afterwards.
	Settings func() *futago.IntakeSettings
	Logger   *slog.Logger
	// MaxWaiting is [DefaultMaxWaiting] when 0. An inform beyond it is
	// recorded and not answered, so that its sender repeats it.
	MaxWaiting int
}

// Status is a snapshot of a receiver's counters since its start.
type Status struct {
	// Recorded counts notifications put into the spool, Refused those that it
	// did not take.
	Recorded uint64 `json:"recorded"`
	Refused  uint64 `json:"refused"`
	// Unparsed and Unauthenticated are those of the decoder: what could not be
	// read, and what named a wrong community, user, digest or key.
	Unparsed        uint64 `json:"unparsed"`
	Unauthenticated uint64 `json:"unauthenticated"`
	// Informs counts informs recorded; each is answered, unanswered or waiting.
	Informs         uint64 `json:"informs"`
	Answered        uint64 `json:"informs_answered"`
	Unanswered      uint64 `json:"informs_unanswered"`
	Waiting         int    `json:"informs_waiting"`
	Retransmissions uint64 `json:"informs_retransmitted"`
	// Discoveries counts probes for our engine id, OutOfWindow authenticated
	// messages whose sender has to take over our time first, Reports the
	// answers to these and to informs that were not accepted.
	Discoveries uint64 `json:"discoveries"`
	OutOfWindow uint64 `json:"out_of_window"`
	Reports     uint64 `json:"reports"`
}

// Receiver reads notifications from one socket. Run is called once; Status may
// be called at any time.
type Receiver struct {
	cfg   Config
	log   *slog.Logger
	table informTable
	queue chan *inform

	// Of the receiving goroutine.
	recs        []futago.Received
	fresh       []freshInform
	reportsAt   time.Time
	reportsSent int
	lastWarning time.Time

	recorded, refused, informs, answered, unanswered atomic.Uint64
	retransmissions, discoveries, outOfWindow        atomic.Uint64
	reports                                          atomic.Uint64
	waiting                                          atomic.Int64
	waitingBytes                                     atomic.Int64
}

// freshInform is an inform of the present batch.
type freshInform struct {
	inf   *inform
	index int // of its record
}

// NewReceiver returns a receiver; Run starts it.
func NewReceiver(cfg Config) *Receiver {
	if cfg.MaxWaiting == 0 {
		cfg.MaxWaiting = DefaultMaxWaiting
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Receiver{
		cfg: cfg, log: cfg.Logger.With("component", "snmptrap"),
		table: newInformTable(),
		queue: make(chan *inform, cfg.MaxWaiting),
	}
}

// Run receives until ctx ends or the socket is closed. It then goes on for up
// to two seconds answering informs that get committed.
func (r *Receiver) Run(ctx context.Context) error {
	answering, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.answer(answering) })

	err := r.cfg.Socket.Run(ctx, r.handle, r.cfg.Producer.Idle)
	close(r.queue)
	late := time.AfterFunc(stopGrace, stop)
	wg.Wait()
	late.Stop()
	return err
}

// Status reads the counters.
func (r *Receiver) Status() Status {
	s := Status{
		Recorded: r.recorded.Load(), Refused: r.refused.Load(),
		Informs: r.informs.Load(), Answered: r.answered.Load(), Unanswered: r.unanswered.Load(),
		Waiting: int(r.waiting.Load()), Retransmissions: r.retransmissions.Load(),
		Discoveries: r.discoveries.Load(), OutOfWindow: r.outOfWindow.Load(), Reports: r.reports.Load(),
	}
	s.Unparsed, s.Unauthenticated = r.cfg.Decoder.Counts()
	return s
}

// handle records a batch. It never returns an error: a spool that takes nothing
// must not end the receiver.
func (r *Receiver) handle(ds []udp.Datagram) error {
	now := time.Now()
	settings := r.cfg.Settings()
	r.recs, r.fresh = r.recs[:0], r.fresh[:0]
	r.table.expire(now)
	for i := range ds {
		d := &ds[i]
		record, inf := r.classify(d, settings, now)
		if !record {
			continue
		}
		if inf != nil {
			r.fresh = append(r.fresh, freshInform{inf, len(r.recs)})
		}
		r.recs = append(r.recs, futago.Received{
			At: d.At, Kind: futago.KindSNMPTrap, Transport: futago.TransportUDP,
			Source: d.Source, Raw: d.Data, Truncated: d.Truncated,
		})
	}
	if len(r.recs) == 0 {
		return nil
	}
	_, err := r.cfg.Producer.Append(r.recs)
	lost := 0
	for i := range r.recs {
		if r.recs[i].Seq == 0 {
			lost++
		}
	}
	r.recorded.Add(uint64(len(r.recs) - lost))
	r.refused.Add(uint64(lost))
	for _, f := range r.fresh {
		if f.inf.seq = r.recs[f.index].Seq; f.inf.seq == 0 {
			r.table.remove(f.inf) // its repetition is the first to be recorded
			continue
		}
		r.informs.Add(1)
		r.enqueue(f.inf)
	}
	if err != nil && now.Sub(r.lastWarning) > 10*time.Second {
		r.lastWarning = now
		r.log.Error("notifications lost: the spool does not take them", "count", lost, "error", err)
	}
	return nil
}

// classify decides about one datagram: whether it is recorded, and whether it
// is an inform that is then to be answered. It answers at once where that is
// right: retransmissions of committed informs and reports.
func (r *Receiver) classify(d *udp.Datagram, s *futago.IntakeSettings, now time.Time) (record bool, inf *inform) {
	var m message
	if err := parseMessage(d.Data, &m); err != nil {
		return true, nil
	}
	switch m.version {
	case versionV2c:
		return r.classifyV2c(d, &m, s, now)
	case versionV3:
		// Traps are never reportable (RFC 3412 section 6.4): the fast path.
		if m.flags&flagReportable != 0 {
			return r.classifyV3(d, &m, s, now)
		}
	}
	return true, nil
}

func (r *Receiver) classifyV2c(d *udp.Datagram, m *message, s *futago.IntakeSettings, now time.Time) (bool, *inform) {
	if len(m.data) == 0 || m.data[0] != tagInform {
		return true, nil
	}
	p, err := parsePDU(m.data)
	if err != nil {
		return true, nil
	}
	var answer []byte
	if accepts(s, m.community) {
		answer = appendV2c(nil, m.version, m.community, responsePDU(&p))
	}
	return r.inform(d, m, m.community, nil, m.data, &p, answer, now)
}

// classifyV3 does what an authoritative engine does (RFC 3414 section 3.2).
func (r *Receiver) classifyV3(d *udp.Datagram, m *message, s *futago.IntakeSettings, now time.Time) (bool, *inform) {
	ours := string(m.engineID) == string(r.cfg.Engine.ID())
	o := r.cfg.Decoder.table(s).open(d.Data, m)
	p, err := parsePDU(o.pdu)
	readable := err == nil
	if readable && (p.tag == tagTrapV2 || p.tag == tagTrapV1) {
		return true, nil // marked reportable by mistake, as some agents do
	}
	probe := readable && !p.isNotification() && o.level == 0 && (!ours || len(m.user) == 0)
	switch {
	case probe: // RFC 3414 section 4
		r.discoveries.Add(1)
		r.report(d, m, &o, faultUnknownEngine, now)
		return false, nil
	case !ours:
		// Its sender may not synchronise, so it is recorded; if it does, what it
		// sends again is a retransmission of this one.
		r.report(d, m, &o, faultUnknownEngine, now)
		if !readable || p.tag != tagInform || o.fault != faultNone {
			return true, nil
		}
		return r.inform(d, m, m.user, o.contextName, o.pdu, &p, nil, now)
	case o.fault != faultNone:
		r.report(d, m, &o, o.fault, now)
		return true, nil
	case o.level&flagAuth != 0 && !r.cfg.Engine.inWindow(m):
		r.outOfWindow.Add(1)
		r.report(d, m, &o, faultNotInTimeWindow, now)
		return false, nil
	case !readable || p.tag != tagInform:
		return true, nil
	}
	return r.inform(d, m, m.user, o.contextName, o.pdu, &p, r.cfg.Engine.response(m, &o, &p), now)
}

// report sends a report, as long as not too many were sent in this second.
func (r *Receiver) report(d *udp.Datagram, m *message, o *opened, f fault, now time.Time) {
	if now.Sub(r.reportsAt) >= time.Second {
		r.reportsAt, r.reportsSent = now, 0
	}
	if r.reportsSent >= maxReports {
		return
	}
	r.reportsSent++
	r.reports.Add(1)
	r.send(*d, r.cfg.Engine.report(m, o, f))
}

func (r *Receiver) send(d udp.Datagram, b []byte) {
	d.Data = nil
	if err := r.cfg.Socket.Reply(d, b); err != nil {
		r.log.Debug("answer not sent", "to", d.Source, "error", err)
	}
}
