package forward

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// pairing is the part of exact de-duplication that matters to the compactor:
// a copy needs its body unless the other manager has one more of its key.
type pairing struct {
	mu      sync.Mutex
	spools  map[futago.MemberID]*machine
	copies  [futago.Slots]map[futago.Key]int
	missing int
}

func (p *pairing) apply(b *command.TrapBatch) command.BatchResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.spools[b.Member]
	slot, _ := b.Member.Slot()
	at := m.applied[b.Spool]
	whole := *b
	whole.Bodies = append([]command.Body(nil), b.Bodies...)
	for i, c := range b.Copies {
		seq := b.First + uint64(i)
		if b.First > at+1 || seq <= at {
			continue
		}
		body := b.Bodies[c.Body]
		if len(body.Trap) == 0 {
			if p.copies[1-slot][body.Key] <= p.copies[slot][body.Key] {
				p.missing++
				whole.Copies = whole.Copies[:i]
				res := m.apply(&whole)
				res.NeedBody = true
				return res
			}
			// Apply has the trap from the other manager's copy.
			r := rec(int(body.Key[0]) | int(body.Key[1])<<8)
			t, _ := plain(&r, nil)
			whole.Bodies[c.Body].Trap = command.AppendTrap(nil, &t)
			whole.Bodies[c.Body].Source = r.Source.Addr()
		}
		p.copies[slot][body.Key]++
	}
	return m.apply(&whole)
}

// numberKey is a decoder whose keys name the record.
func numberKey(r *futago.Received, s *futago.IntakeSettings) (futago.Trap, futago.Key) {
	t, _ := plain(r, s)
	var n int
	_, _ = fmt.Sscanf(t.Message, "record %d", &n)
	return t, futago.Key{byte(n), byte(n >> 8), 1}
}

// Two managers, one leader with the compactor, faults and changes of the term:
// every record is applied once on each side, and left-out bodies never get in
// the way for long.
func TestForward_Compacted(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := &pairing{spools: map[futago.MemberID]*machine{"a": newMachine(), "b": newMachine()}}
			for i := range p.copies {
				p.copies[i] = map[futago.Key]int{}
			}
			l := newLog(nil, seed, seed > 0)
			defer l.stop()
			l.mu.Lock()
			l.compact, l.applyTo = NewCompactor(DefaultCompactorBytes), p.apply
			l.mu.Unlock()
			const n = 6000
			var wg sync.WaitGroup
			for i, member := range []futago.MemberID{"a", "b"} {
				s := openSpool(t, memDir(t))
				o := options(s, l)
				o.Member, o.MaxCopies, o.Timeout = member, 50+i*30, 50*time.Millisecond
				o.Decoders = map[futago.Kind]Decoder{futago.KindSyslog: numberKey}
				_, stop := start(t, o)
				defer stop()
				wg.Go(func() {
					for k := 0; k < n; k += 40 {
						appendTo(t, s, recs(k+1, k+40))
						if k%400 == 0 {
							time.Sleep(time.Millisecond) // let the other one get ahead at times
							l.mu.Lock()
							if l.roll(0.2) {
								l.term++
							}
							l.mu.Unlock()
						}
					}
					if err := s.WaitAcked(t.Context(), n); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.spools["a"].want(t, n)
			p.spools["b"].want(t, n)
			l.mu.Lock()
			defer l.mu.Unlock()
			st := l.compact.Stats()
			if seed == 0 && st.Omitted < n/2 {
				t.Errorf("only %d of %d bodies were left out", st.Omitted, st.Bodies)
			}
			t.Logf("%+v, %d bodies were missing", st, p.missing)
		})
	}
}
