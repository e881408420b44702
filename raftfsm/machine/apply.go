package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store"
)

// remembered is how long, in log time, the result of a proposal is kept for
// its repetitions.
const remembered = 24 * time.Hour

// transaction is one Apply under way. The machine's own fields are changed as
// it goes, and loaded anew if it fails.
type transaction struct {
	m   *Machine
	tx  *store.Tx
	now []indexHash // after each entry

	first   uint64 // id of the first new event
	follow  bool   // somebody wants to know the updated events
	updated map[uint64]struct{}
	cells   map[uint32][]byte // of the spill, written in this transaction
	rules   []int64           // by body of the batch at hand; -1 is not known yet
}

// Apply applies entries, in ascending order of index, in one transaction, and
// returns the result of each. Entries that were applied before change nothing.
//
// An error is of this member alone: the storage failed, or an entry is damaged
// or of a newer version. What precedes a bad entry is committed all the same, and
// only its results are returned. After any error Apply may be called again with
// the same entries.
func (m *Machine) Apply(ctx context.Context, entries []Entry) ([]Result, error) {
	if !m.loaded {
		if err := m.load(ctx); err != nil {
			return nil, err
		}
	}
	decoded, bad := m.decode(entries)
	if len(decoded) == 0 {
		return nil, bad
	}
	tx, err := m.store.Begin(ctx)
	if err != nil {
		return nil, errors.Join(err, bad)
	}
	results, err := m.commit(tx, entries, decoded) //nolint:contextcheck // a transaction is short and is not cut off half way
	if err != nil {
		m.loaded = false
		return nil, errors.Join(err, bad)
	}
	return results, bad
}

// decode stops at the first entry that cannot be applied.
func (m *Machine) decode(entries []Entry) ([]command.Entry, error) {
	decoded := make([]command.Entry, 0, len(entries))
	for i := range entries {
		e, err := command.Decode(entries[i].Data)
		if err != nil {
			return decoded, fmt.Errorf("log entry %d: %w", entries[i].Index, err)
		}
		decoded = append(decoded, e)
	}
	return decoded, nil
}

func (m *Machine) commit(tx *store.Tx, entries []Entry, decoded []command.Entry) ([]Result, error) {
	defer tx.Rollback()
	if m.applied.NextEvent == 0 {
		m.applied.NextEvent = 1
	}
	t := &transaction{m: m, tx: tx, first: m.applied.NextEvent, follow: m.subs.any()}
	results := make([]Result, len(decoded))
	var err error
	for i, e := range decoded {
		if results[i], err = t.entry(&entries[i], e); err != nil {
			return nil, fmt.Errorf("log entry %d: %w", entries[i].Index, err)
		}
	}
	if len(t.now) == 0 {
		return results, nil
	}
	if err := t.finish(); err != nil {
		return nil, err
	}
	m.publish(t.now)
	if t.follow {
		m.subs.send(t.change())
	}
	return results, nil
}

func (t *transaction) entry(e *Entry, c command.Entry) (Result, error) {
	m := t.m
	if e.Index <= m.applied.Index {
		return t.known(e, c)
	}
	m.buf = chain(m.buf, &m.applied.Hash, e)
	res := Result{Index: e.Index}
	var err error
	switch c := c.(type) {
	case *command.TrapBatch:
		if err = t.logTime(c.ProposedAt); err == nil {
			res.Batch, err = t.batch(c)
		}
	case command.Proposal:
		if err = t.logTime(c.Header().At.UnixNano()); err == nil {
			res, err = t.proposal(e, c)
		}
	default:
		err = fmt.Errorf("%v has no place in the state machine", c.EntryType())
	}
	if err != nil {
		return Result{}, err
	}
	h := sum(e, m.buf)
	m.applied.Index, m.applied.Term, m.applied.Hash = e.Index, e.Term, h.hash
	t.now = append(t.now, h)
	return res, nil
}

// logTime moves the log's time on, never back. Results of proposals are
// forgotten at the first entry of each hour, so that which of them are known
// depends on the log alone.
func (t *transaction) logTime(at int64) error {
	a := &t.m.applied
	if at <= a.LogTime {
		return nil
	}
	before := a.LogTime
	a.LogTime = at
	if before/int64(time.Hour) == at/int64(time.Hour) {
		return nil
	}
	_, err := t.tx.PruneProposals(at - int64(remembered))
	return err
}

// known answers an entry that was applied before.
func (t *transaction) known(e *Entry, c command.Entry) (Result, error) {
	switch c := c.(type) {
	case *command.TrapBatch:
		res := Result{Index: e.Index}
		if slot, ok := c.Member.Slot(); ok {
			res.Batch.Applied = t.m.spools[slot].applied(c.Spool)
		}
		return res, nil
	case command.Proposal:
		res, _, err := t.stored(c.Header().ID)
		if res.Index == 0 {
			res.Index = e.Index
		}
		return res, err
	default:
		return Result{Index: e.Index}, nil
	}
}

// stored returns the result of a proposal that was applied before.
func (t *transaction) stored(id command.ID) (res Result, found bool, err error) {
	b, found, err := t.tx.Proposal(id)
	if err == nil && found {
		err = json.Unmarshal(b, &res)
	}
	return res, found, err
}

// finish writes what is kept once per transaction, and commits.
func (t *transaction) finish() error {
	m := t.m
	if err := m.judge.Tidy(spill{t}); err != nil {
		return err
	}
	for slot := range m.spools {
		if err := m.spools[slot].write(t.tx); err != nil {
			return err
		}
	}
	m.applied.Horizon = m.judge.Horizon()
	n := len(m.state)
	m.state = m.judge.AppendState(m.state)
	old, now := m.state[:n], m.state[n:]
	if !bytes.Equal(old, now) {
		if err := t.tx.PutState(judgeState, bytes.Clone(now)); err != nil {
			return err
		}
	}
	m.state = append(m.state[:0], now...)
	if b, changed := m.judge.Directory(); changed {
		if err := t.tx.PutState(judgeDirectory, b); err != nil {
			return err
		}
	}
	return t.tx.Commit(m.applied)
}

func (t *transaction) change() Change {
	c := Change{Index: t.m.applied.Index, First: t.first, Next: t.m.applied.NextEvent}
	for id := range t.updated {
		c.Updated = append(c.Updated, id)
	}
	return c
}
