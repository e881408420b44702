package raftfsm_test

import (
	"crypto/rand"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
)

// A member that missed far more than one request may carry, or its state
// machine may queue, catches up from the log.
func TestCatchUp(t *testing.T) {
	r := newRig(t, registertest.New())
	a := r.start(futago.MemberA)
	r.start(futago.MemberB)
	r.leader()
	r.stop(futago.MemberB)
	if r.leader() != a {
		t.Fatal("the survivor does not lead")
	}
	const batches, copies = 60, 250 // 30 MiB
	for i := range uint64(batches) {
		b := &command.TrapBatch{
			Member: futago.MemberA, Spool: command.ID{1}, First: i*copies + 1, Watermark: int64(i + 1), ProposedAt: int64(i + 1),
		}
		for j := range uint64(copies) {
			trap := futago.Trap{Kind: futago.KindSyslog, Raw: make([]byte, 2000)}
			_, _ = rand.Read(trap.Raw)
			key := futago.Key{byte(i), byte(j), byte(j >> 8)}
			b.Bodies = append(b.Bodies, command.Body{Key: key, Kind: trap.Kind, Trap: command.AppendTrap(nil, &trap)})
			b.Copies = append(b.Copies, command.Copy{Body: uint32(j), At: int64(i + 1)})
		}
		wait(t, "answer to a batch", func() bool { // it may lose the lead on a loaded machine
			res, err := a.node.SubmitBatch(t.Context(), b).Wait(t.Context())
			return err == nil && res.Applied == (i+1)*copies
		})
	}
	b := r.start(futago.MemberB)
	wait(t, "equal state", func() bool { return a.mach.Applied() == b.mach.Applied() })
}
