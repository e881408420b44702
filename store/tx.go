package store

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/futago/futago"
	"github.com/futago/futago/store/internal/litedb"
)

// Applied says how far the log has been applied and what that made of the
// state.
type Applied struct {
	Index uint64
	Term  uint64
	// Hash runs over everything that apply wrote.
	Hash [32]byte
	// LogTime is the greatest proposal time seen, nanoseconds since 1970.
	LogTime int64
	// Horizon: events with smaller ids are closed for de-duplication.
	Horizon uint64
	// NextEvent is the id of the next event; 1 in an empty database.
	NextEvent uint64
}

// Tx is the write transaction of one batch of log entries. It is for one
// goroutine. Nothing is visible to readers before Commit.
type Tx struct {
	s *Store
	g *generation
	c *litedb.Conn

	rows    []EventRow     // not yet inserted, ascending ids
	updates []Receipts     // not yet written
	updated map[uint64]int // id -> index into updates
	zones   []zone         // touched blocks
	arena   []byte         // for encoded columns
}

// Begin starts the transaction, waiting for the one before it. Only the state
// machine calls it.
func (s *Store) Begin(ctx context.Context) (*Tx, error) {
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	g := s.gen
	var err error
	if g == nil {
		err = s.absent()
	}
	s.mu.Unlock()
	if err == nil {
		_, err = g.writer.Exec("BEGIN IMMEDIATE")
	}
	if err != nil {
		<-s.writing
		return nil, err
	}
	return &Tx{s: s, g: g, c: g.writer}, nil
}

// Commit stores how far the log has been applied and ends the transaction.
// When it fails, nothing of the transaction is kept.
func (tx *Tx) Commit(a Applied) error {
	err := tx.flush()
	if err == nil {
		err = tx.putApplied(a)
	}
	if err == nil {
		_, err = tx.c.Exec("COMMIT")
	}
	if err != nil {
		tx.Rollback()
		return err
	}
	tx.g.ckpt.committed()
	tx.s.notify()
	tx.end()
	return nil
}

// Rollback ends the transaction without a trace. After Commit it does nothing.
func (tx *Tx) Rollback() {
	if tx.c == nil {
		return
	}
	// SQLite has rolled back by itself after some errors; then this one says
	// that there is no transaction.
	_, _ = tx.c.Exec("ROLLBACK")
	tx.end()
}

func (tx *Tx) end() {
	tx.c = nil
	<-tx.s.writing
}

// Rows per INSERT statement. Measured: from 8 on the cost per row is flat.
const insertRows = 16

// flushRows bounds how many rows wait in memory.
const flushRows = 16384

var insertSQL = map[int]string{1: insertText(1), insertRows: insertText(insertRows)}

func insertText(rows int) string {
	one := "(?,?,?,?,?,?,?,?,?,?),"
	return "INSERT INTO events (" + rowColumns + ") VALUES " + strings.TrimSuffix(strings.Repeat(one, rows), ",")
}

// InsertEvents adds events. Their ids must be greater than all before them and
// their traps must stay unchanged until the end of the transaction.
func (tx *Tx) InsertEvents(rows []EventRow) error {
	for i := range rows {
		if n := len(tx.rows); n > 0 && rows[i].ID <= tx.rows[n-1].ID || rows[i].ID == 0 {
			return fmt.Errorf("event ids must rise: %d", rows[i].ID)
		}
		if len(rows[i].Trap) == 0 {
			return fmt.Errorf("event %d has no trap", rows[i].ID)
		}
		tx.rows = append(tx.rows, rows[i])
		tx.rows[len(tx.rows)-1].Source = rows[i].Source.Unmap().WithZone("")
	}
	if len(tx.rows) >= flushRows {
		return tx.flush()
	}
	return nil
}

// UpdateReceipts replaces the receipts of events. The last one of an event in
// the transaction counts, and only that is written.
func (tx *Tx) UpdateReceipts(list []Receipts) error {
	for i := range list {
		r := &list[i]
		if e := tx.pending(r.ID); e != nil {
			e.set(r)
			continue
		}
		if j, ok := tx.updated[r.ID]; ok {
			tx.updates[j] = *r
			continue
		}
		if tx.updated == nil {
			tx.updated = map[uint64]int{}
		}
		tx.updated[r.ID] = len(tx.updates)
		tx.updates = append(tx.updates, *r)
	}
	return nil
}

func (tx *Tx) pending(id uint64) *EventRow {
	if len(tx.rows) == 0 || id < tx.rows[0].ID {
		return nil
	}
	i, ok := slices.BinarySearchFunc(tx.rows, id, func(e EventRow, id uint64) int {
		switch {
		case e.ID < id:
			return -1
		case e.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &tx.rows[i]
}

// flush writes what waits in memory.
func (tx *Tx) flush() error {
	rows := tx.rows
	for len(rows) > 0 {
		n := insertRows
		if len(rows) < n {
			n = 1
		}
		if err := tx.insert(rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	if err := tx.flushZones(); err != nil {
		return err
	}
	// In order of id, for pages are written once per transaction then.
	slices.SortFunc(tx.updates, func(a, b Receipts) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	st, err := tx.c.Prepare("UPDATE events SET state = ?2 WHERE id = ?1")
	if err != nil {
		return err
	}
	args := st.Args(2)
	for i := range tx.updates {
		tx.arena = appendState(tx.arena[:0], &tx.updates[i])
		args[0].Value, args[1].Value = int64(tx.updates[i].ID), tx.arena
		switch n, err := st.Exec(); {
		case err != nil:
			return err
		case n != 1:
			return futago.Errorf(futago.CodeCorrupt, "event %d is not in the database", tx.updates[i].ID)
		}
	}
	clear(tx.updated)
	clear(tx.rows) // let go of the traps
	tx.rows, tx.updates = tx.rows[:0], tx.updates[:0]
	return nil
}

func (tx *Tx) insert(rows []EventRow) error {
	st, err := tx.c.Prepare(insertSQL[len(rows)])
	if err != nil {
		return err
	}
	args := st.Args(10 * len(rows))
	// Each row takes at most this much of the arena; it must not grow while
	// arguments point into it.
	tx.arena = slices.Grow(tx.arena[:0], len(rows)*(16+16+stateLen))
	for i := range rows {
		tx.bind(&rows[i], args[10*i:10*i+10])
		tx.touchZone(&rows[i])
	}
	_, err = st.Exec()
	return err
}

func (tx *Tx) bind(e *EventRow, a []driver.NamedValue) {
	cut := func(f func([]byte) []byte) []byte {
		n := len(tx.arena)
		tx.arena = f(tx.arena)
		return tx.arena[n:]
	}
	a[0].Value = int64(e.ID)
	a[1].Value = e.At
	a[2].Value = int64(e.Kind)
	a[3].Value = int64(e.Severity)
	a[4].Value = e.rule()
	a[5].Value = cut(func(b []byte) []byte { return appendAddr(b, e.Source) })
	a[6].Value = cut(func(b []byte) []byte { return append(b, e.Key[:]...) })
	a[7].Value = int64(uint64(headSum(e))<<32 | uint64(trapSum(e.Trap)))
	r := e.receipts()
	a[8].Value = cut(func(b []byte) []byte { return appendState(b, &r) })
	a[9].Value = e.Trap
}

func (tx *Tx) putApplied(a Applied) error {
	_, err := tx.c.Exec(`INSERT OR REPLACE INTO applied
		(one, log_index, term, hash, log_time, horizon, next_event, sum) VALUES (1, ?, ?, ?, ?, ?, ?, ?)`,
		a.Index, a.Term, a.Hash[:], a.LogTime, a.Horizon, a.NextEvent, appliedSum(&a))
	return err
}

func appliedSum(a *Applied) int64 {
	b := make([]byte, 0, 80)
	for _, v := range []uint64{a.Index, a.Term, uint64(a.LogTime), a.Horizon, a.NextEvent} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return int64(crc32.Checksum(append(b, a.Hash[:]...), castagnoli))
}

func readApplied(ctx context.Context, c *litedb.Conn) (Applied, error) {
	a := Applied{NextEvent: 1}
	_, err := c.One(ctx, func(r litedb.Row) error {
		a = Applied{
			Index: uint64(r.Int(0)), Term: uint64(r.Int(1)), LogTime: r.Int(3),
			Horizon: uint64(r.Int(4)), NextEvent: uint64(r.Int(5)),
		}
		if copy(a.Hash[:], r.Bytes(2)) != len(a.Hash) || appliedSum(&a) != r.Int(6) {
			return litedb.Corrupt(c.Path(), "the applied index in %s fails its checksum", c.Path())
		}
		return nil
	}, "SELECT log_index, term, hash, log_time, horizon, next_event, sum FROM applied WHERE one = 1")
	return a, err
}

// Applied returns what the last transaction stored.
func (s *Store) Applied(ctx context.Context) (a Applied, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		a, err = readApplied(ctx, c)
		return err
	})
	return a, err
}

// Rows returns the events with these ids without their traps, as the
// transaction sees them, in the order asked for. Unknown ids are left out.
func (tx *Tx) Rows(ids []uint64) ([]EventRow, error) {
	out := make([]EventRow, 0, len(ids))
	for _, id := range ids {
		if e := tx.pending(id); e != nil {
			row := *e
			row.Trap = nil
			out = append(out, row)
			continue
		}
		_, err := tx.c.One(context.Background(), func(r litedb.Row) error {
			var e EventRow
			if err := parseRow(tx.c.Path(), r, &e); err != nil {
				return err
			}
			if j, ok := tx.updated[id]; ok {
				e.set(&tx.updates[j])
			}
			out = append(out, e)
			return nil
		}, "SELECT "+headColumns+" FROM events WHERE id = ?", id)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
