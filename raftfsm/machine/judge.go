package machine

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/dedup"
	"github.com/futago/futago/store"
)

// Names under which the store keeps what the de-duplication needs at a restart:
// dedup.Judge.AppendState, Directory, and the cells of the spill.
const (
	judgeState     = "dedup"
	judgeDirectory = "dedup-directory"
	judgeCell      = "dedup-cell-%d"
)

// loadJudge rebuilds the de-duplication from the store.
func (m *Machine) loadJudge(ctx context.Context) (*dedup.Judge, error) {
	state, err := m.store.State(ctx, judgeState)
	if err != nil {
		return nil, err
	}
	directory, err := m.store.State(ctx, judgeDirectory)
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
	scanned := func(yield func(dedup.Group, error) bool) {
		for row, err := range m.store.OpenEvents(ctx, max(m.applied.Horizon, 1)) {
			if err != nil {
				yield(dedup.Group{}, err)
				return
			}
			if row.Kind == futago.KindInternal {
				continue
			}
			g, err := groupOf(&row, len(rules))
			if !yield(g, err) || err != nil {
				return
			}
		}
	}
	return dedup.Rebuild(m.limit, state, directory, intern, scanned)
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

func (s spill) PutCell(n uint32, content []byte) error {
	if s.t.cells == nil {
		s.t.cells = make(map[uint32][]byte)
	}
	s.t.cells[n] = content
	return s.t.tx.PutState(fmt.Sprintf(judgeCell, n), content)
}

func (s spill) Cell(n uint32) ([]byte, error) {
	if b, ok := s.t.cells[n]; ok {
		return b, nil
	}
	return s.t.m.store.State(context.Background(), fmt.Sprintf(judgeCell, n))
}

func (s spill) Groups(ids []uint64) ([]dedup.Group, error) {
	rows, err := s.t.tx.Rows(ids)
	if err != nil {
		return nil, err
	}
	out := make([]dedup.Group, len(rows))
	for i := range rows {
		if out[i], err = groupOf(&rows[i], s.t.m.rules.known); err != nil {
			return nil, err
		}
	}
	return out, nil
}
