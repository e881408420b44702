package search

import (
	"context"
	"errors"
	"fmt"

	"github.com/futago/futago/store/internal/litedb"
)

// formVersion changes when terms or their coding do; an index of another one
// is built anew.
const formVersion = 1

const schema = `
CREATE TABLE segs (
  seg     INTEGER PRIMARY KEY, -- number of the segment times 256, plus that of its part
  last_id INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  last_fp INTEGER NOT NULL
);
CREATE TABLE blocks (
  seg   INTEGER NOT NULL, -- as in segs
  first BLOB    NOT NULL, -- first term
  data  BLOB    NOT NULL,
  PRIMARY KEY (seg, first)
);`

// database is the index file. The writer is Run's alone.
type database struct {
	writer  *litedb.Conn
	readers chan *litedb.Conn
}

const readers = 3

func openDatabase(ctx context.Context, path string) (_ *database, err error) {
	d := &database{readers: make(chan *litedb.Conn, readers)}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	d.writer, err = litedb.Open(path, litedb.Options{Pragmas: []string{
		"page_size(8192)", "journal_mode(WAL)", "synchronous(NORMAL)", "cache_size(-2048)",
		"journal_size_limit(8388608)", "busy_timeout(10000)", "temp_store(MEMORY)", "cell_size_check(1)",
	}})
	if err != nil {
		return nil, err
	}
	version := int64(0)
	if _, err := d.writer.One(ctx, func(r litedb.Row) error { version = r.Int(0); return nil }, "PRAGMA user_version"); err != nil {
		return nil, err
	}
	switch version {
	case formVersion:
	case 0:
		if err := d.writer.Script(fmt.Sprintf("BEGIN;%s\nPRAGMA user_version=%d;\nCOMMIT;", schema, formVersion)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("form %d of the index is not %d", version, formVersion)
	}
	for range readers {
		c, err := litedb.Open(path, litedb.Options{Pragmas: []string{
			"query_only(1)", "cache_size(-4096)", "busy_timeout(10000)", "cell_size_check(1)",
		}})
		if err != nil {
			return nil, err
		}
		d.readers <- c
	}
	return d, nil
}

func (d *database) close() error {
	close(d.readers)
	var errs []error
	for c := range d.readers {
		errs = append(errs, c.Close())
	}
	if d.writer != nil {
		errs = append(errs, d.writer.Close())
	}
	return errors.Join(errs...)
}

// partKey names a part of a segment in the file. Most segments have one part.
func partKey(seg, part uint64) uint64 { return seg<<8 | part }

// maxParts follows from partKey.
const maxParts = 256

// segment describes a stored part of a segment.
type segment struct {
	seg, part uint64
	last      lastEvent
}

func (d *database) segments(ctx context.Context) (list []segment, err error) {
	err = d.writer.Query(ctx, func(r litedb.Row) error {
		list = append(list, segment{
			seg: uint64(r.Int(0)) >> 8, part: uint64(r.Int(0)) & 0xff,
			last: lastEvent{id: uint64(r.Int(1)), at: r.Int(2), fp: uint64(r.Int(3))},
		})
		return nil
	}, "SELECT seg, last_id, last_at, last_fp FROM segs ORDER BY seg")
	return list, err
}

// drop removes the parts from key on.
func (d *database) drop(key uint64) error {
	return d.tx(func() error {
		for _, table := range []string{"blocks", "segs"} {
			if _, err := d.writer.Exec("DELETE FROM "+table+" WHERE seg >= ?", key); err != nil {
				return err
			}
		}
		return nil
	})
}

// write stores a part of a segment in one transaction.
func (d *database) write(ctx context.Context, t *tail) error {
	key := partKey(t.seg, t.part)
	return d.tx(func() error {
		w := blockWriter{seg: key, emit: func(first, block []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			_, err := d.writer.Exec("INSERT INTO blocks (seg, first, data) VALUES (?, ?, ?)", key, first, block)
			return err
		}}
		if err := t.write(&w); err != nil {
			return err
		}
		_, err := d.writer.Exec("INSERT INTO segs (seg, last_id, last_at, last_fp) VALUES (?, ?, ?, ?)",
			key, t.last.id, t.last.at, t.last.fp)
		return err
	})
}

func (d *database) tx(f func() error) error {
	if _, err := d.writer.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = d.writer.Exec("COMMIT")
	}
	if err != nil {
		_, _ = d.writer.Exec("ROLLBACK") // SQLite may have done so already
	}
	return err
}

// or adds the events of a stored part that have a term in sp to s.
func (d *database) or(ctx context.Context, c *litedb.Conn, s *set, key uint64, sp span) error {
	past := false
	visit := func(r litedb.Row) error {
		err := readBlock(key, r.Bytes(0), func(term, postings []byte) (bool, error) {
			if sp.has(term) {
				return sp.hi != nil, orPostings(s, postings)
			}
			past = sp.past(term)
			return !past, nil
		})
		if err != nil {
			return litedb.Corrupt(c.Path(), "segment %d of %s is damaged", key>>8, c.Path()).Wrap(err)
		}
		return nil
	}
	_, err := c.One(ctx, visit, "SELECT data FROM blocks WHERE seg = ? AND first <= ? ORDER BY first DESC LIMIT 1", key, sp.lo)
	if err != nil || sp.hi == nil || past {
		return err
	}
	return c.Query(ctx, visit, "SELECT data FROM blocks WHERE seg = ? AND first > ? AND first < ? ORDER BY first",
		key, sp.lo, sp.hi)
}
