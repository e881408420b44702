package thirdvote

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// currentTermKey is the library's, which does not export it; a test holds the
// two together.
var currentTermKey = []byte("CurrentTerm")

// Create writes the first record of a cluster, with the manager that
// initialises it as the only holder: the other one is taken in when it has
// joined and caught up. It is called once, at init, and says ErrExists for a
// register that already serves a cluster.
func Create(ctx context.Context, r register.Register, self futago.MemberID, id register.Identity) (register.Record, error) {
	first := register.Record{Nonce: register.NewNonce(), Holders: register.HolderOf(self)}.WithIdentity(self, id)
	if err := first.ValidateContent(); err != nil {
		return register.Record{}, err
	}
	got, err := r.Create(ctx, first)
	switch {
	case errors.Is(err, register.ErrExists):
		return got, futago.Errorf(futago.CodeConflict, "the register already serves a cluster").Wrap(err).
			WithAction("choose another name for this cluster in the register, or join the cluster that is there")
	case err != nil:
		return got, futago.Errorf(futago.CodeUnavailable, "the register's first record").Wrap(err)
	}
	return got, nil
}

// Open makes the Voter of a data directory, before Raft is started on it (R6).
// It reads the register. A directory that was admitted starts without it, too;
// one that was not, whose term is raised to at least the register's in stable,
// refuses to. A directory that the register names as holder is admitted here,
// as the first one of a cluster is.
func Open(ctx context.Context, cfg Config, stable raft.StableStore) (*Voter, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	mem, err := loadMemory(cfg.File, cfg.Identity)
	if err != nil {
		return nil, err
	}
	v := newVoter(cfg, mem)
	if err := v.admit(ctx, stable); err != nil {
		_ = v.Close()
		return nil, err
	}
	return v, nil
}

func (v *Voter) admit(ctx context.Context, stable raft.StableStore) error {
	const tries = 3 // the first request of a process is its slowest
	rec, err := v.reads.do(ctx)
	for n := 1; n < tries && !v.Admitted() && errors.Is(err, register.ErrUnavailable) && ctx.Err() == nil; n++ {
		rec, err = v.reads.do(ctx)
	}
	if v.Admitted() {
		if err != nil {
			v.cfg.Logger.Warn("starting without the register", "error", err)
		}
		return nil
	}
	switch {
	case errors.Is(err, register.ErrMissing):
		return futago.Errorf(futago.CodeUnavailable, "the register has no record of this cluster").Wrap(err).
			WithAction("check the register's address and the cluster's name")
	case futago.CodeOf(err) == futago.CodeCorrupt:
		return err
	case err != nil:
		return futago.Errorf(futago.CodeUnavailable, "a manager with a new data directory starts only with the register").Wrap(err).
			WithAction("make the register reachable, then start again")
	}
	current, err := stable.GetUint64(currentTermKey)
	if err != nil && err.Error() != "not found" { // the library's own test for a missing key
		return futago.Errorf(futago.CodeInternal, "the raft term cannot be read").Wrap(err)
	}
	if first := rules.FirstTerm(v.cfg.switches, current, rec); first > current {
		if err := stable.SetUint64(currentTermKey, first); err != nil {
			return futago.Errorf(futago.CodeInternal, "the raft term cannot be stored").Wrap(err)
		}
		v.cfg.Logger.Info("not admitted yet: term raised to the register's", "from", current, "to", first)
	}
	return nil
}
