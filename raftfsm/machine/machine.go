// Package machine is the replicated state machine: it applies log entries to
// the store, one transaction for any number of entries, and keeps the running
// hash by which members prove that they hold the same.
//
// Apply is deterministic: it reads no clock and draws no random number; times
// and ids come in the entries. How entries are grouped into transactions, when a
// member restarts and what it keeps in memory makes no difference to what is
// stored. A refusal is a result, equal on every member. An error is a failure
// of this member alone, and nothing of the transaction is kept.
package machine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/raftfsm/dedup"
	"github.com/futago/futago/store"
)

// Entry is one command of the log.
type Entry struct {
	Index uint64
	Term  uint64
	// Data is the output of command.Encode. The machine keeps no reference to it
	// after Apply.
	Data []byte
}

// Result is what apply answers to an entry, the same on every member.
type Result struct {
	// Index is where the entry took effect: for a proposal that was repeated,
	// that of its first copy.
	Index uint64 `json:"index"`
	// Batch answers a TrapBatch.
	Batch command.BatchResult `json:"batch,omitzero"`
	// EventID is the event that a Report made.
	EventID uint64 `json:"event_id,omitempty"`
	// Code, Message and Action say why the entry was refused; Code is "" when it
	// was not.
	Code    futago.Code `json:"code,omitempty"`
	Message string      `json:"message,omitempty"`
	Action  string      `json:"action,omitempty"`
}

// Err returns the refusal as a *futago.Error, nil when there was none.
func (r Result) Err() error {
	if r.Code == "" {
		return nil
	}
	return &futago.Error{Code: r.Code, Message: r.Message, Action: r.Action}
}

// Options of a Machine.
type Options struct {
	Logger *slog.Logger
	// DedupLimit is how many open events are kept in memory, default
	// dedup.DefaultLimit. It changes no verdict.
	DedupLimit int
}

// Machine applies entries to a store. Apply and Restore are called from one
// goroutine at a time; all other methods are safe for concurrent use.
type Machine struct {
	store *store.Store
	log   *slog.Logger
	limit int

	// What follows belongs to Apply and Restore. It mirrors the store and is
	// loaded anew after a transaction that failed.
	loaded   bool
	applied  store.Applied
	judge    *dedup.Judge
	rules    ruleCache
	spools   [futago.Slots]spools
	state    []byte // of the judge, as stored
	counters Stats
	buf      []byte // what the hash of an entry is made of

	settings atomic.Pointer[futago.IntakeSettings] // of the last commit
	subs     subscribers

	mu    sync.Mutex // guards everything below, which is of the last commit
	ring  ring
	pub   store.Applied
	stats Stats
}

// Stats is for metrics. Counters start at zero when the process does.
type Stats struct {
	Copies  uint64 // copies counted
	Events  uint64 // events made
	Paired  uint64 // copies by reason, see futago.Reason
	Repeats uint64
	Windows uint64
	Dedup   dedup.Stats
	// Watermarks say up to when each manager's spool has been applied,
	// nanoseconds since 1970; 0 for a manager that never reported.
	Watermarks [futago.Slots]int64
}

// Open makes a machine that goes on where the store stopped.
func Open(ctx context.Context, st *store.Store, o Options) (*Machine, error) {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Machine{store: st, log: log.With("component", "machine"), limit: o.DedupLimit}
	if err := m.load(ctx); err != nil {
		return nil, err
	}
	m.publish(nil)
	return m, nil
}

// load takes everything that Apply keeps in memory from the store. Its cost is
// bounded by the open events, not by the history.
func (m *Machine) load(ctx context.Context) error {
	var err error
	if m.applied, err = m.store.Applied(ctx); err != nil {
		return err
	}
	settings, err := m.store.Settings(ctx)
	if err != nil {
		return err
	}
	marks, err := m.store.SpoolMarks(ctx)
	if err != nil {
		return err
	}
	if m.judge, err = m.loadJudge(ctx); err != nil {
		return fmt.Errorf("rebuild the de-duplication: %w", err)
	}
	if m.spools, err = loadSpools(marks); err != nil {
		return err
	}
	m.rules.reset(&settings)
	m.state = m.judge.AppendState(m.state[:0])
	m.loaded = true
	m.log.Info("state loaded", "index", m.applied.Index, "next_event", m.applied.NextEvent, "open_events", m.judge.Stats().Open)
	return nil
}

// Applied returns how far the log has been applied, and the hash of all of it.
func (m *Machine) Applied() store.Applied {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pub
}

// HashAt returns the running hash after the entry with this index, or after
// the last one before it. Only the last ringSize entries are known, and none
// from before the process started.
func (m *Machine) HashAt(index uint64) ([32]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ring.at(index)
}

// Settings returns the intake settings in force. The caller must not change them.
func (m *Machine) Settings() *futago.IntakeSettings { return m.settings.Load() }

// Stats returns the present numbers.
func (m *Machine) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Restore replaces the store's database by the backup at path, see
// store.Store.Restore, and goes on from there. When it fails before anything
// was replaced, the machine goes on as it was.
func (m *Machine) Restore(ctx context.Context, path string, sum [32]byte) error {
	m.loaded = false
	if _, err := m.store.Restore(ctx, path, sum); err != nil {
		return err
	}
	if err := m.load(ctx); err != nil {
		return err
	}
	m.publish(nil)
	m.subs.send(Change{Index: m.applied.Index, Next: m.applied.NextEvent, Replaced: true})
	return nil
}

// publish makes the state after a commit visible; entries are the hashes after
// the entries in it. Without entries, it is the state of another history.
func (m *Machine) publish(entries []indexHash) {
	m.settings.Store(m.rules.settings)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(entries) == 0 {
		m.ring.reset(indexHash{m.applied.Index, m.applied.Hash})
	}
	for _, e := range entries {
		m.ring.add(e)
	}
	m.pub = m.applied
	m.stats = m.counters
	m.stats.Dedup = m.judge.Stats()
	for slot := range m.spools {
		m.stats.Watermarks[slot] = m.spools[slot].mark.Watermark
	}
}
