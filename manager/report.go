package manager

import (
	"context"
	"crypto/rand"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// reportLimit bounds the reports that wait for a leader.
const reportLimit = 256

// reporter records Futago's own reports as events (an overflow, a damaged
// file), as soon as there is a leader.
type reporter struct {
	m       *Manager
	queue   chan *command.Report
	dropped atomic.Uint64
}

func newReporter(m *Manager) *reporter {
	return &reporter{m: m, queue: make(chan *command.Report, reportLimit)}
}

// report queues a report and never waits. One that finds the queue full is
// counted and stays in the process's own log.
func (r *reporter) report(topic string, severity futago.Severity, message string) {
	r.m.log.Info("report", "topic", topic, "severity", severity.String(), "message", message)
	p := &command.Report{
		Meta:   command.Meta{ID: newProposalID(), At: r.m.now().UTC(), By: string(r.m.node.Member)},
		Member: r.m.node.Member, Topic: topic, Severity: severity, Message: message,
	}
	select {
	case r.queue <- p:
	default:
		r.dropped.Add(1)
	}
}

func newProposalID() (id command.ID) {
	_, _ = rand.Read(id[:])
	return id
}

// run proposes the reports in order until ctx ends. The id makes repetition
// harmless, so each is tried until its outcome is known.
func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-r.queue:
			for !r.propose(ctx, p) {
				if sleep(ctx, reportPause); ctx.Err() != nil {
					return
				}
			}
		}
	}
}

// reportPause is the time between two tries.
const reportPause = time.Second

// propose reports whether p is done with.
func (r *reporter) propose(ctx context.Context, p *command.Report) bool {
	s, err := r.m.session()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	switch _, err := s.raft.Propose(ctx, p); futago.CodeOf(err) {
	case "":
		return true
	case futago.CodeUnavailable, futago.CodeUnknown, futago.CodeNotLeader:
		return false
	default:
		r.m.log.Error("report refused", "topic", p.Topic, "err", err)
		r.dropped.Add(1)
		return true
	}
}

func (r *reporter) status() futago.QueueStatus {
	return futago.QueueStatus{Name: "reports", Depth: uint64(len(r.queue)), Limit: reportLimit, Dropped: r.dropped.Load()}
}
