package snmptrap

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/udp"
)

// informKey tells informs apart. The sum covers the PDU as received; its seed
// is secret, and an inform can only meet another one of the same sender.
type informKey struct {
	source    netip.AddrPort
	requestID int64
	sum       uint64
}

// inform is one that was recorded lately.
type inform struct {
	key informKey
	seq uint64 // of its record; 0 until that is in the spool, unchanged after

	// Under the table's mutex.
	state  informState
	at     time.Time    // of the newest transmission
	from   udp.Datagram // the newest transmission, without data
	answer []byte       // to from; nil when there is none to give, or none left
}

type informState uint8

const (
	informNew      informState = iota // not queued yet
	informWaiting                     // queued for its commitment
	informDone                        // committed and answered
	informUnserved                    // not answered: refused, waited too long, or no room to wait
)

// informTable remembers informs for [remember] after their last transmission.
// The receiving goroutine adds and removes; the answering one changes states.
type informTable struct {
	seed  maphash.Seed
	mu    sync.Mutex
	byKey map[informKey]*inform
	queue []aged // by age
	head  int
}

type aged struct {
	inf *inform
	at  time.Time
}

func newInformTable() informTable {
	return informTable{seed: maphash.MakeSeed(), byKey: make(map[informKey]*inform)}
}

// accepts reports whether the settings accept a community.
func accepts(s *futago.IntakeSettings, community []byte) bool {
	return len(s.Communities) == 0 || slices.Contains(s.Communities, string(community))
}

// expire forgets what was last seen more than [remember] ago, and the oldest
// when there is too much.
func (t *informTable) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.head < len(t.queue) {
		a := t.queue[t.head]
		full := len(t.queue)-t.head > maxRemembered
		if !full && now.Sub(a.at) <= remember {
			break
		}
		t.queue[t.head] = aged{}
		t.head++
		switch {
		case !full && now.Sub(a.inf.at) <= remember && t.byKey[a.inf.key] == a.inf:
			t.queue = append(t.queue, aged{a.inf, now}) // seen again meanwhile
		default:
			t.drop(a.inf)
		}
	}
	if t.head > 1024 && t.head > len(t.queue)/2 {
		t.queue = slices.Delete(t.queue, 0, t.head)
		t.head = 0
	}
}

// drop takes an inform out of the map. The caller holds mu.
func (t *informTable) drop(i *inform) {
	if t.byKey[i.key] == i {
		delete(t.byKey, i.key)
	}
}

func (t *informTable) remove(i *inform) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(i)
}

// sum is a digest of what makes an inform the same.
func (t *informTable) sum(version int, name, contextName, raw []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, part := range [][]byte{{byte(version)}, name, contextName, raw} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		_, _ = h.Write(n[:])
		_, _ = h.Write(part)
	}
	return h.Sum64()
}

// inform looks an inform up. A new one is to be recorded; a retransmission is
// counted and answered as soon as the first transmission is committed. answer
// is nil for one that is recorded and gets no answer.
func (r *Receiver) inform(d *udp.Datagram, m *message, name, contextName, raw []byte, p *pdu, answer []byte, now time.Time) (record bool, inf *inform) {
	t := &r.table
	key := informKey{source: d.Source, requestID: p.requestID, sum: t.sum(m.version, name, contextName, raw)}
	from := *d
	from.Data = nil

	t.mu.Lock()
	old := t.byKey[key]
	if old == nil {
		inf := &inform{key: key, at: now, from: from, answer: answer}
		t.byKey[key] = inf
		t.queue = append(t.queue, aged{inf, now})
		t.mu.Unlock()
		return true, inf
	}
	old.at = now
	state := old.state
	if answer != nil && state != informDone {
		// A version 3 sender may take an answer to its newest message alone.
		if state == informWaiting {
			r.waitingBytes.Add(int64(len(answer) - len(old.answer)))
		}
		old.from, old.answer = from, answer
	}
	t.mu.Unlock()

	r.retransmissions.Add(1)
	switch {
	case answer == nil:
	case state == informDone:
		r.send(from, answer)
	case state == informUnserved:
		r.unanswered.Add(^uint64(0))
		r.enqueue(old)
	}
	return false, nil
}

// enqueue makes a recorded inform wait for its commitment. The queue is in the
// order of the records, but for informs that found no room before.
func (r *Receiver) enqueue(inf *inform) {
	t := &r.table
	t.mu.Lock()
	defer t.mu.Unlock()
	size := int64(len(inf.answer))
	if inf.answer != nil && r.waitingBytes.Load()+size <= maxWaitingBytes {
		inf.state = informWaiting
		select {
		case r.queue <- inf:
			r.waiting.Add(1)
			r.waitingBytes.Add(size)
			return
		default:
		}
	}
	inf.state, inf.answer = informUnserved, nil
	r.unanswered.Add(1)
}

// answer sends the answers of informs as they get committed.
func (r *Receiver) answer(ctx context.Context) {
	for inf := range r.queue {
		committed := r.await(ctx, inf)
		r.table.mu.Lock()
		from, answer := inf.from, inf.answer
		inf.answer, inf.state = nil, informUnserved
		if committed {
			inf.state = informDone
		}
		r.table.mu.Unlock()
		r.waiting.Add(-1)
		r.waitingBytes.Add(-int64(len(answer)))
		if committed {
			r.send(from, answer)
			r.answered.Add(1)
		} else {
			r.unanswered.Add(1)
		}
	}
}

// await waits until the inform is committed, as long as its sender goes on
// repeating it and for [remember] more.
func (r *Receiver) await(ctx context.Context, inf *inform) bool {
	for {
		r.table.mu.Lock()
		at := inf.at
		r.table.mu.Unlock()
		wait, cancel := context.WithDeadline(ctx, at.Add(remember))
		err := r.cfg.Commits.WaitAcked(wait, inf.seq)
		cancel()
		if err == nil {
			return true
		}
		if futago.CodeOf(err) == futago.CodeCorrupt {
			r.table.remove(inf) // the record is lost: its repetition is recorded anew
			return false
		}
		r.table.mu.Lock()
		seen := inf.at.After(at)
		r.table.mu.Unlock()
		if ctx.Err() != nil || !seen {
			return false
		}
	}
}
