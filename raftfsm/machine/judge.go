package machine

import (
	"context"
	"iter"
	"net/netip"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/dedup"
	"github.com/futago/futago/store"
)

// judgeState is the name under which the store keeps dedup.Judge.AppendState.
const judgeState = "dedup"

// loadJudge rebuilds the de-duplication from the store.
func (m *Machine) loadJudge(ctx context.Context) (*dedup.Judge, error) {
	state, err := m.store.State(ctx, judgeState)
	if err != nil {
		return nil, err
	}
	rules, err := m.store.Rules(ctx)
	if err != nil {
		return nil, err
	}
	for i, r := range rules {
		if int64(r.Number) != int64(i) {
			return nil, futago.Errorf(futago.CodeCorrupt, "rule %d of the de-duplication is missing", i)
		}
	}
	m.rules.known = len(rules)
	intern := func(j *dedup.Judge) {
		for _, r := range rules {
			j.Rule(r.Rule)
		}
	}
	groups := func(rows iter.Seq2[store.EventRow, error]) iter.Seq2[dedup.Group, error] {
		return func(yield func(dedup.Group, error) bool) {
			for row, err := range rows {
				if err == nil && row.Kind == futago.KindInternal {
					continue
				}
				g, err2 := groupOf(&row, len(rules))
				if err == nil {
					err = err2
				}
				if !yield(g, err) {
					return
				}
			}
		}
	}
	horizon := max(m.applied.Horizon, 1)
	return dedup.Rebuild(m.limit, state, intern, groups(m.store.OpenEvents(ctx, horizon)), groups(m.store.DedupOpen(ctx)))
}

func groupOf(r *store.EventRow, rules int) (dedup.Group, error) {
	if int64(r.Rule) >= int64(rules) {
		return dedup.Group{}, futago.Errorf(futago.CodeCorrupt, "event %d was made under rule %d, which is missing", r.ID, r.Rule)
	}
	return dedup.Group{
		ID: r.ID, Key: r.Key, At: r.At, Count: r.Count, First: r.First, Last: r.Last, Rule: dedup.RuleID(r.Rule),
	}, nil
}

// ruleCache finds the rule for a sender by the settings in force.
type ruleCache struct {
	settings *futago.IntakeSettings
	known    int // rules that have a number in the store
	bySender map[sender]dedup.RuleID
}

type sender struct {
	kind   futago.Kind
	source netip.Addr
}

// maxSenders bounds the cache; beyond it starts anew.
const maxSenders = 1 << 16

// reset takes over new settings, which are not changed from now on.
func (c *ruleCache) reset(s *futago.IntakeSettings) {
	c.settings = s
	c.bySender = make(map[sender]dedup.RuleID)
}

// rule returns the number of the rule for a sender. A rule that was never
// used before gets the next number: the order of copies in the log decides
// which, so it is the same on every member.
func (t *transaction) rule(k futago.Kind, a netip.Addr) (dedup.RuleID, error) {
	c := &t.m.rules
	s := sender{k, a}
	if id, ok := c.bySender[s]; ok {
		return id, nil
	}
	r := c.settings.Rule(k, a)
	id := t.m.judge.Rule(r)
	if int64(id) >= int64(c.known) {
		if err := t.tx.PutRule(store.Rule{Number: uint32(id), Rule: r}); err != nil {
			return 0, err
		}
		c.known++
	}
	if len(c.bySender) >= maxSenders {
		clear(c.bySender)
	}
	c.bySender[s] = id
	return id, nil
}

// spill is the dedup.Spill of a transaction.
type spill struct{ t *transaction }

func (s spill) Put(k futago.Key, id uint64) error {
	return s.t.tx.PutOpen([]store.OpenGroup{{Key: k, ID: id}})
}

func (s spill) Delete(k futago.Key, id uint64) error {
	return s.t.tx.DeleteOpen([]store.OpenGroup{{Key: k, ID: id}})
}

func (s spill) Groups(k futago.Key) ([]dedup.Group, error) {
	ids, err := s.t.tx.OpenByKey(k)
	if err != nil {
		return nil, err
	}
	return s.groups(ids)
}

func (s spill) groups(ids []uint64) ([]dedup.Group, error) {
	rows, err := s.t.tx.Rows(ids)
	if err != nil {
		return nil, err
	}
	if len(rows) != len(ids) {
		return nil, futago.Errorf(futago.CodeCorrupt, "%d of %d open events are not in the database", len(ids)-len(rows), len(ids))
	}
	out := make([]dedup.Group, len(rows))
	for i := range rows {
		if out[i], err = groupOf(&rows[i], s.t.m.rules.known); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s spill) Next(after uint64, n int) ([]dedup.Group, error) {
	list, err := s.t.tx.OpenAfter(after, n)
	if err != nil {
		return nil, err
	}
	ids := make([]uint64, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return s.groups(ids)
}
