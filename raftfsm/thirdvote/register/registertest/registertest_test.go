package registertest

import (
	"errors"
	"testing"

	"github.com/futago/futago/raftfsm/thirdvote/register"
)

func first() register.Record {
	return register.Record{Holders: register.HolderA, IdentityA: register.NewIdentity()}
}

func change(old register.Record) register.Record {
	next := old
	next.Term++
	next.Nonce = register.NewNonce()
	return next
}

func TestClient_CompareAndSet_OnlyOnWhatWasRead(t *testing.T) {
	g := New(first())
	c := g.Client()
	old, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := change(old)
	got, err := c.CompareAndSet(t.Context(), old, next)
	if err != nil || got.Version != old.Version+1 || got.Nonce != next.Nonce || g.Current() != got {
		t.Fatalf("got %v, %v", got, err)
	}
	_, err = c.CompareAndSet(t.Context(), old, change(old))
	e, ok := errors.AsType[*register.ConflictError](err)
	if !ok || e.Current != got {
		t.Fatalf("second write on the same record: %v", err)
	}
	forged := got
	forged.Nonce = register.NewNonce()
	if _, err := c.CompareAndSet(t.Context(), forged, change(forged)); !errors.Is(err, register.ErrConflict) {
		t.Fatalf("equal version, other nonce: %v", err)
	}
}

func TestClient_CompareAndSet_LateTakesEffectOnlyIfNotMoved(t *testing.T) {
	for _, moved := range []bool{false, true} {
		g := New(first())
		c := g.Client()
		old := g.Current()
		c.SetFate(func(_, _ register.Record) Fate { return Late })
		if _, err := c.CompareAndSet(t.Context(), old, change(old)); !errors.Is(err, register.ErrAmbiguous) {
			t.Fatal(err)
		}
		if !g.Current().Same(old) {
			t.Fatal("done at once")
		}
		if moved {
			if _, err := g.Client().CompareAndSet(t.Context(), old, change(old)); err != nil {
				t.Fatal(err)
			}
		}
		if done := g.Release(); (done == 1) == moved {
			t.Errorf("moved %v: %d late writes done", moved, done)
		}
	}
}

func TestClient_Create_Once(t *testing.T) {
	g := New()
	c := g.Client()
	if _, err := c.Read(t.Context()); !errors.Is(err, register.ErrMissing) {
		t.Fatal(err)
	}
	r := first()
	r.Nonce = register.NewNonce()
	if _, err := c.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), r); !errors.Is(err, register.ErrExists) {
		t.Fatal(err)
	}
	g.SetDown(true)
	if _, err := c.Read(t.Context()); !errors.Is(err, register.ErrUnavailable) {
		t.Fatal(err)
	}
}
