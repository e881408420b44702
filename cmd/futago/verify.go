package main

import (
	"encoding/hex"
	"os"
	"text/tabwriter"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/store"
)

type verifyCmd struct{}

// Help explains the use.
func (*verifyCmd) Help() string {
	return "Stop the member first. Two members that have applied the same entry have the same digest.\n\n" +
		examples("futago verify --dir /var/lib/futago")
}

// Run checks every page and prints a digest of every row.
func (*verifyCmd) Run(e *env) error {
	d, err := cluster.Open(e.global.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := os.Stat(d.Path("state.db")); err != nil {
		return futago.Errorf(futago.CodeNotFound, "member %s has no database yet", d.Node().Member).
			WithAction("start it once (futago manager)").Wrap(err)
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
	out := struct {
		Member string `json:"member"`
		Entry  uint64 `json:"entry"`
		Hash   string `json:"hash"`
		Digest string `json:"digest"`
	}{string(d.Node().Member), a.Index, hex.EncodeToString(a.Hash[:]), hex.EncodeToString(sum[:])}
	return e.print(out, func(t *tabwriter.Writer) {
		row(t, "Member", out.Member)
		row(t, "Pages", "no damage")
		row(t, "Applied entry", out.Entry)
		row(t, "Running hash", out.Hash)
		row(t, "Digest of all rows", out.Digest)
	})
}
