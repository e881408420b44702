package raftfsm_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
)

// Whoever serves the member link after another one answers every request, also
// on the connections that the earlier one left behind.
func TestLink_NobodyAnswersAfterItsEnd(t *testing.T) {
	r := newRig(t, registertest.New())
	dir, err := cluster.Open(r.dirs[futago.MemberA])
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	link, err := raftfsm.Listen(t.Context(), "127.0.0.1:0", dir.Node(), dir.Keys(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.SetAddress(futago.MemberA, link.Addr().String())
	ask := link.AskerForTest(futago.MemberA)
	for i := range 600 {
		want := fmt.Sprintf("session %d", i)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- link.Absent(ctx, func() raftfsm.Hello { return raftfsm.Hello{Role: want} }) }()
		for range 2 {
			// A connection may break under a request; the next one is new.
			if h, err := ask(t.Context()); err == nil && h.Role != want {
				t.Fatalf("%q answers for %q", h.Role, want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}
