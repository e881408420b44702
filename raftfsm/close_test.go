package raftfsm_test

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
)

// A member that stops under load answers everybody, and leaves nothing in the
// library's queue.
func TestClose_UnderLoad(t *testing.T) {
	r := newRig(t, registertest.New())
	a := r.start(futago.MemberA)
	r.start(futago.MemberB)
	r.leader()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var stop atomic.Bool
	var done, batches atomic.Uint64
	for i := range 50 {
		wg.Go(func() {
			for n := uint64(0); !stop.Load(); n++ {
				var p command.PutToken
				p.ID = command.ID{1, byte(i)}
				binary.BigEndian.PutUint64(p.ID[8:], n)
				p.Token = futago.Token{ID: "x", Role: futago.RoleViewer}
				if _, err := a.node.Propose(ctx, &p); err != nil {
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Go(func() {
		for n := uint64(1); !stop.Load(); n++ {
			b := &command.TrapBatch{Member: futago.MemberA, Spool: command.ID{7}, First: n, Copies: []command.Copy{{At: int64(n)}}}
			trap := futago.Trap{Kind: futago.KindSyslog, Raw: binary.BigEndian.AppendUint64(nil, n)}
			b.Bodies = []command.Body{{Key: futago.NewKey(trap.Kind, trap.Source.Addr(), trap.Raw), Kind: trap.Kind, Trap: command.AppendTrap(nil, &trap)}}
			f := a.node.SubmitBatch(ctx, b)
			wg.Go(func() {
				if res, err := f.Wait(ctx); err == nil && res.Applied >= n {
					batches.Add(1)
				}
			})
			time.Sleep(time.Millisecond) // a bound on what is under way
		}
	})
	wait(t, "work under way", func() bool { return done.Load() > 200 && batches.Load() > 20 })
	r.stop(futago.MemberA)
	if n := a.node.InRaft(); n != 0 {
		t.Errorf("%d entries are left without an answer", n)
	}
	stop.Store(true)
	wg.Wait()
	if ctx.Err() != nil {
		t.Error("somebody waited until the end")
	}
}
