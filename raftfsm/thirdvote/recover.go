package thirdvote

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// Seize makes a stopped manager the only holder, by an operator's word, where
// no rule can: the register lost its record or shows an older one, or the only
// holder's disk is gone. What the operator vouches for: no manager runs; this
// one has every write that must not be lost; the old register, if there was
// another, never comes back; and no write that was sent to this one before is
// still under way. The other manager must then [Forget] if it was up to date,
// and otherwise join again with an empty data directory.
//
// The record is written on whatever the register shows, in a term above the
// manager's and the register's, so that nobody's earlier vote counts in it. Where
// the record names this manager anyway and never went back, CodeConflict: it can
// go on by the rules.
func Seize(ctx context.Context, r register.Register, file string, self futago.MemberID, id register.Identity, stable raft.StableStore) (register.Record, error) {
	mem, err := loadMemory(file, id)
	if err != nil {
		return register.Record{}, err
	}
	term, err := stable.GetUint64(currentTermKey)
	if err != nil && err.Error() != "not found" {
		return register.Record{}, futago.Errorf(futago.CodeInternal, "the raft term cannot be read").Wrap(err)
	}
	next := register.Record{Nonce: register.NewNonce(), Holders: register.HolderOf(self)}
	old, err := r.Read(ctx)
	missing := errors.Is(err, register.ErrMissing)
	if err != nil && !missing {
		return register.Record{}, futago.Errorf(futago.CodeUnavailable, "the register cannot be read").Wrap(err)
	}
	if _, _, ok := rules.Judge(rules.Switches{}, mem.Mark, old); !missing && ok && old.Holds(self, id) {
		return old, futago.Errorf(futago.CodeConflict, "the register names manager %s as a holder already", self).
			WithAction("start this manager: it can go on without that")
	}
	if !missing {
		next.IdentityA, next.IdentityB = old.IdentityA, old.IdentityB
	}
	next = next.WithIdentity(self, id)
	next.Term = max(term, old.Term) + 1
	var got register.Record
	if missing {
		got, err = r.Create(ctx, next)
	} else {
		got, err = r.CompareAndSet(ctx, old, next)
	}
	if err != nil {
		return register.Record{}, futago.Errorf(futago.CodeUnknown, "the register did not take the record").Wrap(err).
			WithAction("run the command again; nothing was changed on this manager")
	}
	// Raft starts in the record's term, so that its first election is above it.
	if err := stable.SetUint64(currentTermKey, next.Term); err != nil {
		return got, futago.Errorf(futago.CodeInternal, "the raft term cannot be stored").Wrap(err)
	}
	mem.Mark, mem.Admitted = rules.MarkOf(got), true
	if err := mem.save(file); err != nil {
		return got, futago.Errorf(futago.CodeStorageFull, "file %s cannot be written", file).Wrap(err)
	}
	return got, nil
}

// Forget makes a stopped manager take whatever record the register shows next,
// after the other one has seized it. It keeps its log and its say: it stays no
// holder until the other one takes it back.
func Forget(file string, id register.Identity) error {
	mem, err := loadMemory(file, id)
	if err != nil {
		return err
	}
	mem.Mark = rules.Mark{}
	if err := mem.save(file); err != nil {
		return futago.Errorf(futago.CodeStorageFull, "file %s cannot be written", file).Wrap(err)
	}
	return nil
}
