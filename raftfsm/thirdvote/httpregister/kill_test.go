package httpregister

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// operation is one call in a history.
type operation struct {
	write     bool
	old, next register.Nonce // of a write
}

// result is what came back. The record is known by its nonce alone.
type result struct {
	kind  resultKind
	found register.Nonce // of a read, or in a conflict
}

type resultKind int

const (
	done resultKind = iota
	conflict
	unknown
)

// model is a single register: a write takes effect on the record it names,
// and on no other. A write of unknown outcome ends at the end of time, so it
// may stand anywhere after its call; one that never took effect stands last.
var model = porcupine.Model{
	Init: func() any { return register.Nonce{} },
	Step: func(state, input, output any) (bool, any) {
		cur, in, out := state.(register.Nonce), input.(operation), output.(result)
		if !in.write {
			return out.found == cur, cur
		}
		fits := cur == in.old
		switch out.kind {
		case done:
			return fits, in.next
		case conflict:
			return !fits && out.found == cur, cur
		default:
			if fits {
				return true, in.next
			}
			return true, cur
		}
	},
}

const endOfTime = int64(1) << 62

// history collects operations of several clients.
type history struct {
	mu    sync.Mutex
	start time.Time
	ops   []porcupine.Operation
	acked int
	top   uint64 // highest version acknowledged
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

func (h *history) add(client int, in operation, call int64, out result, version uint64) {
	ret := h.now()
	if out.kind == unknown {
		ret = endOfTime
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: ret})
	if in.write && out.kind == done {
		h.acked++
		h.top = max(h.top, version)
	}
}

func (h *history) highest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.top
}

// client reads and writes until stop is closed.
func (h *history) client(t *testing.T, id int, r *Register, stop <-chan struct{}) {
	var cur register.Record
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		if cur.Version == 0 || n%3 == 0 {
			atLeast := h.highest()
			call := h.now()
			rec, err := r.Read(t.Context())
			if err != nil {
				if !errors.Is(err, register.ErrUnavailable) {
					t.Errorf("read: %v", err)
				}
				time.Sleep(time.Millisecond) // the witness is being restarted
				continue
			}
			h.add(id, operation{}, call, result{kind: done, found: rec.Nonce}, rec.Version)
			if rec.Version < atLeast {
				t.Errorf("version %d is read after %d was acknowledged", rec.Version, atLeast)
			}
			cur = rec
		}
		next := after(cur)
		in := operation{write: true, old: cur.Nonce, next: next.Nonce}
		call := h.now()
		rec, err := r.CompareAndSet(t.Context(), cur, next)
		e, moved := errors.AsType[*register.ConflictError](err)
		switch {
		case err == nil:
			h.add(id, in, call, result{kind: done}, rec.Version)
			cur = rec
		case moved:
			h.add(id, in, call, result{kind: conflict, found: e.Current.Nonce}, 0)
			cur = e.Current
		case errors.Is(err, register.ErrAmbiguous):
			h.add(id, in, call, result{kind: unknown}, 0)
			cur = register.Record{}
		case errors.Is(err, register.ErrUnavailable):
			// Certainly not done: leaving it out makes the history wrong if it was.
			cur = register.Record{}
		default:
			t.Errorf("write: %v", err)
			return
		}
	}
}

// A witness is killed again and again under load. No acknowledged write is
// lost, no read goes back, and what clients saw is the history of one
// register.
func TestRegister_KilledWitness_Linearizable(t *testing.T) {
	const kills, clients, writesBetween = 8, 4, 40
	dir := t.TempDir()
	p := spawn(t, dir, "127.0.0.1:0")
	defer func() { p.kill() }()
	inv := invite(t, dir, "c1", p.addr)
	firstRec, err := open(t, inv, 0).Create(t.Context(), first())
	if err != nil {
		t.Fatal(err)
	}
	h := &history{start: time.Now(), top: 1}
	h.ops = append(h.ops, porcupine.Operation{
		Input: operation{write: true, next: firstRec.Nonce}, Call: -1, Output: result{kind: done}, Return: -1,
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for id := range clients {
		r := open(t, inv, time.Second)
		wg.Go(func() { h.client(t, id+1, r, stop) })
	}
	for range kills {
		from := h.highest()
		eventually(t, "writes between two kills", func() bool { return h.highest() >= from+writesBetween })
		p.kill()
		p = spawn(t, dir, p.addr)
	}
	from := h.highest()
	eventually(t, "writes after the last kill", func() bool { return h.highest() >= from+writesBetween })
	close(stop)
	wg.Wait()

	last := mustRead(t, open(t, inv, 0))
	if last.Version < h.top {
		t.Errorf("version %d at the end, and %d was acknowledged", last.Version, h.top)
	}
	h.add(0, operation{}, h.now(), result{kind: done, found: last.Nonce}, last.Version)
	ambiguous := 0
	for _, op := range h.ops {
		if op.Output.(result).kind == unknown {
			ambiguous++
		}
	}
	t.Logf("%d operations, %d writes acknowledged, %d ambiguous, %d kills", len(h.ops), h.acked, ambiguous, kills)
	if ambiguous == 0 {
		t.Error("no kill struck a write: the test shows nothing")
	}
	if got := porcupine.CheckOperationsTimeout(model, h.ops, time.Minute); got != porcupine.Ok {
		t.Errorf("history of one register: %v", got)
	}
}

// The checker must be able to say no.
func TestModel_SeesLostWrites(t *testing.T) {
	n := func(b byte) register.Nonce { return register.Nonce{b} }
	write := func(old, next byte, kind resultKind, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: operation{true, n(old), n(next)}, Output: result{kind: kind}, Call: call, Return: ret}
	}
	read := func(found byte, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: operation{}, Output: result{found: n(found)}, Call: call, Return: ret}
	}
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		want porcupine.CheckResult
	}{
		"fine":                 {[]porcupine.Operation{write(0, 1, done, 0, 1), read(1, 2, 3)}, porcupine.Ok},
		"lost":                 {[]porcupine.Operation{write(0, 1, done, 0, 1), read(0, 2, 3)}, porcupine.Illegal},
		"two on one record":    {[]porcupine.Operation{write(0, 1, done, 0, 5), write(0, 2, done, 0, 5)}, porcupine.Illegal},
		"unknown, done late":   {[]porcupine.Operation{write(0, 1, unknown, 0, endOfTime), read(0, 2, 3), read(1, 4, 5)}, porcupine.Ok},
		"unknown, never done":  {[]porcupine.Operation{write(0, 1, unknown, 0, endOfTime), read(0, 2, 3), write(0, 2, done, 4, 5)}, porcupine.Ok},
		"unknown, comes, goes": {[]porcupine.Operation{write(0, 1, unknown, 0, endOfTime), read(1, 2, 3), read(0, 4, 5)}, porcupine.Illegal},
	} {
		if got := porcupine.CheckOperationsTimeout(model, c.ops, time.Minute); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
