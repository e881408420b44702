package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/store"
)

type verifyCmd struct{}

// Help explains the use.
func (*verifyCmd) Help() string {
	return "Stop the member first. Two members that have applied the same entry have the same digest.\n\n" +
		examples("futago verify --dir /var/lib/futago")
}

// verified is what a check without damage found.
type verified struct {
	Member   futago.MemberID `json:"member"`
	FirstLog uint64          `json:"first_log"`
	LastLog  uint64          `json:"last_log"`
	Entry    uint64          `json:"entry"`
	Hash     string          `json:"hash"`
	Digest   string          `json:"digest"`
}

// Run checks the identity, every entry of the log, every page of the database,
// and digests every row.
func (*verifyCmd) Run(e *env) error {
	d, err := cluster.Open(e.global.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	v := verified{Member: d.Node().Member}
	if _, err := os.Stat(d.Path("state.db")); err != nil {
		return futago.Errorf(futago.CodeNotFound, "member %s has no database yet", v.Member).
			WithAction("start it once (futago manager)").Wrap(err)
	}
	if v.FirstLog, v.LastLog, err = raftfsm.CheckLog(d.Path()); err != nil {
		return err
	}
	s, err := store.Open(e.ctx, store.Options{Path: d.Path("state.db"), ClusterID: d.Node().ClusterID, Logger: e.global.logger()})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Check(e.ctx); err != nil {
		return err
	}
	a, sum, err := s.Digest(e.ctx)
	if err != nil {
		return err
	}
	v.Entry, v.Hash, v.Digest = a.Index, hex.EncodeToString(a.Hash[:]), hex.EncodeToString(sum[:])
	return e.print(v, func(t *tabwriter.Writer) {
		row(t, "Member", v.Member)
		row(t, "Log", fmt.Sprintf("no damage, entries %d to %d", v.FirstLog, v.LastLog))
		row(t, "Database", "no damage, on any page")
		row(t, "Applied entry", v.Entry)
		row(t, "Running hash", v.Hash)
		row(t, "Digest of all rows", v.Digest)
	})
}
