package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the managers' databases, read beside them

	"github.com/futago/futago"
)

// database looks into a running manager's database from outside: what can be
// read there is committed and applied.
type database struct {
	db *sql.DB
}

func openDatabase(n *node) (*database, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(n.dir, "state.db")+"?mode=ro&_pragma=busy_timeout(2000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return &database{db}, nil
}

func (d *database) close() { _ = d.db.Close() }

// state is how far one manager has applied.
type state struct {
	index  int64
	next   int64 // id of the next event
	newest time.Time
	seq    map[futago.MemberID]int64 // of each manager's spool
}

func (d *database) read(ctx context.Context) (s state, err error) {
	s.seq = map[futago.MemberID]int64{}
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return s, err
	}
	defer func() { _ = tx.Rollback() }() // it only reads
	err = tx.QueryRowContext(ctx, "SELECT log_index, next_event FROM applied").Scan(&s.index, &s.next)
	if err != nil {
		return s, err
	}
	var at int64
	if err := tx.QueryRowContext(ctx, "SELECT coalesce((SELECT at FROM events ORDER BY id DESC LIMIT 1), 0)").Scan(&at); err != nil {
		return s, err
	}
	s.newest = time.Unix(0, at)
	rows, err := tx.QueryContext(ctx, "SELECT member, seq FROM spool_marks WHERE current = 1")
	if err != nil {
		return s, err
	}
	defer rows.Close()
	for rows.Next() {
		var m string
		var n int64
		if err := rows.Scan(&m, &n); err != nil {
			return s, err
		}
		s.seq[futago.MemberID(m)] = n
	}
	return s, rows.Err()
}

// databases are those of all managers.
type databases []*database

func openDatabases(c *testCluster) (all databases, err error) {
	for _, n := range c.nodes {
		d, err := openDatabase(n)
		if err != nil {
			all.close()
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (all databases) close() {
	for _, d := range all {
		d.close()
	}
}

func (all databases) read(ctx context.Context) ([]state, error) {
	out := make([]state, len(all))
	for i, d := range all {
		s, err := d.read(ctx)
		if err != nil {
			return nil, fmt.Errorf("look into a database: %w", err)
		}
		out[i] = s
	}
	return out, nil
}

// least is the smallest progress of any manager's spool in any database.
func least(now, before []state) int64 {
	var n int64 = -1
	for i := range now {
		for _, m := range []futago.MemberID{futago.MemberA, futago.MemberB} {
			d := now[i].seq[m] - before[i].seq[m]
			if n < 0 || d < n {
				n = d
			}
		}
	}
	return n
}
