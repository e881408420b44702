package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/futago/futago"
	"github.com/futago/futago/store/internal/litedb"
)

// Check reads the whole database file at path, which may be in use, and
// verifies its structure and the checksum of every row. Damage comes back as
// CodeCorrupt and names the page or the row. It takes time in proportion to
// the size.
func Check(ctx context.Context, path string) (err error) {
	// No look at the header with os.Open here: closing the file again would
	// drop the locks that this process holds on it through SQLite.
	c, err := litedb.Open(path, litedb.Options{Pragmas: readerPragmas})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return snapshot(ctx, c, func(ctx context.Context, c *litedb.Conn) error {
		err := c.Query(ctx, func(r litedb.Row) error {
			if m := r.Text(0); m != "ok" {
				return litedb.Corrupt(path, "%s is damaged: %s", path, m)
			}
			return nil
		}, "PRAGMA quick_check(1)")
		if err != nil {
			return err
		}
		if _, _, err = digest(ctx, c); err != nil {
			return err
		}
		return checkDerived(ctx, c)
	})
}

// checkDerived compares what is derived from the events with them.
func checkDerived(ctx context.Context, c *litedb.Conn) error {
	const missing = `
		SELECT 'block', block FROM (
			SELECT id >> 11 AS block, min(at) AS lo, max(at) AS hi FROM events GROUP BY id >> 11
		) AS e WHERE NOT EXISTS (
			SELECT 1 FROM zones AS z WHERE z.block = e.block AND z.lo <= e.lo AND z.hi >= e.hi)
		UNION ALL
		SELECT 'block', z.block FROM zones AS z, events AS e
		WHERE e.id BETWEEN z.block << 11 AND (z.block + 1 << 11) - 1
		  AND (z.kinds & (1 << e.kind) = 0 OR z.severities & (1 << e.severity) = 0)
		LIMIT 1`
	return c.Query(ctx, func(r litedb.Row) error {
		return litedb.Corrupt(c.Path(), "%s is damaged: %s %d does not agree with the events", c.Path(), r.Text(0), r.Int(1))
	}, missing)
}

// Check is the function [Check] on this database.
func (s *Store) Check(ctx context.Context) error { return Check(ctx, s.o.Path) }

// Digest hashes all logical content (events, settings, users, tokens, rules
// and spool marks) at one moment, and says which. Two databases with the same
// Applied.Index have the same digest, or they are not equal. It reads
// everything, verifying it on the way.
func (s *Store) Digest(ctx context.Context) (a Applied, sum [32]byte, err error) {
	err = s.readAlone(ctx, func(ctx context.Context, c *litedb.Conn) error {
		a, sum, err = digest(ctx, c)
		return err
	})
	return a, sum, err
}

func digest(ctx context.Context, c *litedb.Conn) (a Applied, sum [32]byte, err error) {
	if a, err = readApplied(ctx, c); err != nil {
		return a, sum, err
	}
	d := digester{h: sha256.New()}
	d.section("events")
	err = c.Query(ctx, func(r litedb.Row) error {
		var e EventRow
		if err := parseRow(c.Path(), r, &e); err != nil {
			return err
		}
		d.event(&e)
		return nil
	}, "SELECT "+rowColumns+" FROM events ORDER BY id")
	if err != nil {
		return a, sum, err
	}
	for _, class := range []string{classSettings, classUser, classToken, classRule} {
		d.section(class)
		err = c.Query(ctx, func(r litedb.Row) error {
			if _, err := parseDoc[any](c.Path(), class, r); err != nil {
				return err
			}
			d.bytes([]byte(r.Text(0)))
			d.bytes(r.Bytes(1))
			return nil
		}, "SELECT name, doc, sum FROM docs WHERE class = ? ORDER BY name", class)
		if err != nil {
			return a, sum, err
		}
	}
	d.section("marks")
	marks, err := listMarks(ctx, c)
	if err != nil {
		return a, sum, err
	}
	for i := range marks {
		m := &marks[i]
		d.bytes([]byte(m.Member))
		d.bytes(m.Spool[:])
		d.num(m.Seq, uint64(m.Watermark), uint64(m.current()))
	}
	d.section("end")
	d.flush()
	return a, [32]byte(d.h.Sum(nil)), nil
}

// digester frames values and hashes them in larger pieces.
type digester struct {
	h   hash.Hash
	buf []byte
}

func (d *digester) flush() {
	d.h.Write(d.buf)
	d.buf = d.buf[:0]
}

func (d *digester) num(list ...uint64) {
	for _, v := range list {
		d.buf = binary.LittleEndian.AppendUint64(d.buf, v)
	}
}

func (d *digester) bytes(b []byte) {
	d.num(uint64(len(b)))
	d.buf = append(d.buf, b...)
	if len(d.buf) > 1<<16 {
		d.flush()
	}
}

func (d *digester) section(name string) { d.bytes([]byte(name)) }

func (d *digester) event(e *EventRow) {
	d.num(e.ID, uint64(e.At), uint64(e.Kind), uint64(e.Severity), uint64(e.rule()), uint64(e.Reason))
	for i := range futago.Slots {
		d.num(e.Count[i], uint64(e.First[i]), uint64(e.Last[i]))
	}
	d.buf = append(d.buf, e.Key[:]...)
	d.bytes(appendAddr(nil, e.Source))
	d.bytes(e.Trap)
}
