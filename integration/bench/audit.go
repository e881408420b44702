package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/store"
)

// audit compares what the loads sent with what both databases hold, event by
// event. The managers must have been stopped.
func (c *testCluster) audit(ctx context.Context, results []*loadResult) error {
	sums := make([]store.Applied, len(c.nodes))
	for i, n := range c.nodes {
		st, err := store.Open(ctx, store.Options{Path: filepath.Join(n.dir, "state.db")})
		if err != nil {
			return err
		}
		for _, r := range results {
			if err := auditLoad(ctx, st, n, r); err != nil {
				return errors.Join(err, st.Close())
			}
		}
		sums[i], err = st.Applied(ctx)
		if err := errors.Join(err, st.Close()); err != nil {
			return err
		}
	}
	if sums[0].Index == sums[1].Index && sums[0].Hash != sums[1].Hash {
		return fmt.Errorf("the databases differ at entry %d", sums[0].Index)
	}
	return nil
}

func auditLoad(ctx context.Context, st *store.Store, n *node, r *loadResult) error {
	report, err := generate.AuditCounts(r.blast, eventRange(ctx, st, r.first, r.next))
	if err != nil {
		return err
	}
	r.Audited = true
	r.Missing, r.Excess = max(r.Missing, report.Missing), max(r.Excess, report.Excess)
	for _, f := range report.First {
		r.Findings = append(r.Findings, string(n.member)+": "+f)
	}
	return nil
}

// eventRange walks over events with from <= id < to.
func eventRange(ctx context.Context, st *store.Store, from, to uint64) iter.Seq2[futago.Event, error] {
	const page = 4096
	errStop := errors.New("stop")
	return func(yield func(futago.Event, error) bool) {
		for from < to {
			last := from - 1
			err := st.Traps(ctx, from, page, func(row *store.EventRow, t *futago.Trap) error {
				if row.ID >= to {
					return errStop
				}
				last = row.ID
				e := futago.Event{ID: row.ID, Trap: *t}
				for _, n := range row.Count {
					e.Count = max(e.Count, n)
				}
				if !yield(e, nil) {
					return errStop
				}
				return nil
			})
			switch {
			case errors.Is(err, errStop) || err == nil && last < from:
				return
			case err != nil:
				yield(futago.Event{}, err)
				return
			}
			from = last + 1
		}
	}
}
