package thirdvote

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
)

// The register loses its record, or goes back: both managers refuse it, and
// after an operator's word they serve again with nothing lost.
func TestRecover_RegisterLost_SeizeAndForget(t *testing.T) {
	for _, older := range []bool{false, true} {
		c := start(t)
		a, b := c.nodes["a"], c.nodes["b"]
		old := c.reg.Current()
		b.crash()
		c.write()
		b.start()
		c.settled()
		a.crash()
		b.crash()
		fresh := registertest.New()
		if older {
			fresh = registertest.New(old)
		}
		c.reg = fresh
		a.client, b.client = fresh.Client(), fresh.Client()
		a.start()
		b.start()
		c.wait("the managers serve each other", func() bool { return c.leader() != nil && c.leader().write("x", patience) })
		if older {
			c.wait("both say so", func() bool { return a.saw(EventWentBack) > 0 && b.saw(EventWentBack) > 0 })
		}
		c.leader().peer().crash()
		l := c.leader()
		if l != nil && l.write("alone", 5*heartbeat) {
			t.Fatal("goes on alone with a register that went back")
		}
		a.crash()
		b.crash()
		if l == nil {
			l = a
		}
		got, err := Seize(t.Context(), l.client, l.file(), l.id, l.identity, l.logs)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Holders.Only(l.id) || !got.Holds(l.id, l.identity) || got.VotedFor != "" {
			t.Errorf("seized: %v", got)
		}
		if err := Forget(l.peer().file(), l.peer().identity); err != nil {
			t.Fatal(err)
		}
		l.start()
		c.write()
		l.peer().start()
		c.mustHaveAll()
		c.close()
	}
}

func TestRecover_Seize_NothingChangedWithoutTheRegister(t *testing.T) {
	reg := registertest.New()
	reg.SetDown(true)
	n := &node{dir: t.TempDir()}
	stable := raft.NewInmemStore()
	if err := stable.SetUint64(currentTermKey, 7); err != nil {
		t.Fatal(err)
	}
	_, err := Seize(t.Context(), reg.Client(), n.file(), "a", register.NewIdentity(), stable)
	if futago.CodeOf(err) != futago.CodeUnavailable {
		t.Error(err)
	}
	if term, _ := stable.GetUint64(currentTermKey); term != 7 {
		t.Errorf("term %d", term)
	}
}
