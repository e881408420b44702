package raftfsm

import (
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// Under more load than the members can carry, the manager that is nearer to the
// log would get its traps into it first and the other one would fall behind. Its
// copies would find their events out of memory, which makes the load greater
// still. So, while both are sending, the leader lets the one wait that is less
// behind what it received.
const (
	// paceFrom is by how much less is too much, and paceTo how far behind the
	// other one is when it is replaying what it received while it was cut off:
	// nobody waits for that.
	paceFrom = 250 * time.Millisecond
	paceTo   = 30 * time.Second
	// paceSending is how long ago the other one may have sent.
	paceSending = 500 * time.Millisecond
	// paceWait bounds the wait of one batch, paceStep is between two looks.
	paceWait = 50 * time.Millisecond
	paceStep = 5 * time.Millisecond
)

// pacer knows how far each manager is behind what it received, by its own clock.
type pacer struct {
	mu     sync.Mutex // guards what follows
	behind [futago.Slots]time.Duration
	sent   [futago.Slots]time.Time
}

func (p *pacer) note(slot int, behind time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behind[slot], p.sent[slot] = behind, now
}

// ahead reports whether a manager should wait for the other one.
func (p *pacer) ahead(slot int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	other := 1 - slot
	return p.behind[other] > p.behind[slot]+paceFrom && p.behind[other] < paceTo && now.Sub(p.sent[other]) < paceSending
}

// pace holds a manager's batch back, for a bounded time, while it is ahead.
func (n *Node) pace(b *command.TrapBatch) {
	slot, ok := b.Member.Slot()
	if !ok || len(b.Copies) == 0 {
		return
	}
	now := n.cfg.Now()
	n.pacer.note(slot, time.Duration(b.ProposedAt-b.Copies[len(b.Copies)-1].At), now)
	for until := now.Add(paceWait); now.Before(until) && n.pacer.ahead(slot, now); now = n.cfg.Now() {
		select {
		case <-n.closed:
			return
		case <-time.After(paceStep):
		}
	}
}
