// Package litedb drives SQLite connections without database/sql: one
// goroutine at a time holds a connection, statements are prepared once and
// kept by their text, and errors come back as coded ones. The pool of
// database/sql would cost a lock, a conversion and an allocation per argument
// and per column, which is more than SQLite itself needs for a row.
package litedb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"modernc.org/sqlite"
)

// uninterrupted is handed to the driver: with another context it starts a
// goroutine per call. Long queries look at theirs between two rows instead.
var uninterrupted = context.Background()

// Conn is one connection. It is not safe for concurrent use.
type Conn struct {
	c     driver.Conn
	path  string
	stmts map[string]*Stmt
}

// Options of a connection.
type Options struct {
	// Pragmas run in order on the new connection, written like "cache_size(-8192)".
	Pragmas []string
	// ReadOnly opens the file without the right to write or create it.
	ReadOnly bool
	// Immutable promises that nobody writes the file meanwhile: no locks, no
	// WAL. Only for files at rest.
	Immutable bool
}

// Open opens a connection to the database file at path.
//
//nolint:contextcheck // see uninterrupted
func Open(path string, o Options) (*Conn, error) {
	q := make([]string, 0, len(o.Pragmas)+2)
	switch {
	case o.Immutable:
		q = append(q, "mode=ro", "immutable=1")
	case o.ReadOnly:
		q = append(q, "mode=ro")
	}
	for _, p := range o.Pragmas {
		q = append(q, "_pragma="+url.QueryEscape(p))
	}
	cn, err := sqlite.NewConnector(FileURI(path) + "?" + strings.Join(q, "&"))
	if err != nil {
		return nil, wrap(path, err)
	}
	c, err := cn.Connect(uninterrupted)
	if err != nil {
		return nil, wrap(path, err)
	}
	return &Conn{c: c, path: path, stmts: map[string]*Stmt{}}, nil
}

// FileURI returns the file: form of path, escaped.
func FileURI(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }

// Close closes the statements and the connection.
func (c *Conn) Close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.st.Close())
	}
	c.stmts = nil
	errs = append(errs, c.c.Close())
	return wrap(c.path, errors.Join(errs...))
}

// Path returns the path of the database file.
func (c *Conn) Path() string { return c.path }

// Stmt is a prepared statement of a Conn.
type Stmt struct {
	c    *Conn
	st   driver.Stmt
	ex   driver.StmtExecContext
	qu   driver.StmtQueryContext
	args []driver.NamedValue
	dest []driver.Value
}

// Prepare returns the statement for the text, preparing it on first use. The
// set of texts must be bounded, for statements live as long as the Conn.
func (c *Conn) Prepare(sql string) (*Stmt, error) {
	if s, ok := c.stmts[sql]; ok {
		return s, nil
	}
	st, err := c.c.Prepare(sql)
	if err != nil {
		return nil, wrap(c.path, fmt.Errorf("prepare %.60q: %w", sql, err))
	}
	s := &Stmt{c: c, st: st}
	var ok1, ok2 bool
	s.ex, ok1 = st.(driver.StmtExecContext)
	s.qu, ok2 = st.(driver.StmtQueryContext)
	if !ok1 || !ok2 {
		return nil, errors.New("sqlite driver without context methods")
	}
	c.stmts[sql] = s
	return s, nil
}

// Args returns the reused argument list of n values, to be filled in order.
func (s *Stmt) Args(n int) []driver.NamedValue {
	if len(s.args) != n {
		s.args = make([]driver.NamedValue, n)
		for i := range s.args {
			s.args[i].Ordinal = i + 1
		}
	}
	return s.args
}

// Exec runs the statement with the arguments filled into Args and returns the
// number of rows it changed. It is never interrupted.
//
//nolint:contextcheck // see uninterrupted
func (s *Stmt) Exec() (int64, error) {
	r, err := s.ex.ExecContext(uninterrupted, s.args)
	if err != nil {
		return 0, wrap(s.c.path, err)
	}
	n, err := r.RowsAffected()
	return n, wrap(s.c.path, err)
}

// Exec runs one statement and returns the number of rows it changed.
func (c *Conn) Exec(sql string, args ...any) (int64, error) {
	s, err := c.Prepare(sql)
	if err != nil {
		return 0, err
	}
	if err := s.bind(args); err != nil {
		return 0, err
	}
	return s.Exec()
}

// Script runs statements without arguments and without keeping them.
//
//nolint:contextcheck // see uninterrupted
func (c *Conn) Script(sql string) error {
	ex, ok := c.c.(driver.ExecerContext)
	if !ok {
		return errors.New("sqlite driver without ExecContext")
	}
	_, err := ex.ExecContext(uninterrupted, sql, nil)
	return wrap(c.path, err)
}

// Row is the present row of a query: int64, float64, string, []byte or nil.
// Blobs are the caller's to keep; the slice itself is reused.
type Row []driver.Value

// Int returns column i as an integer, 0 when it is none.
func (r Row) Int(i int) int64 { v, _ := r[i].(int64); return v }

// Bytes returns column i as a blob, nil when it is none.
func (r Row) Bytes(i int) []byte { v, _ := r[i].([]byte); return v }

// Text returns column i as text, "" when it is none.
func (r Row) Text(i int) string { v, _ := r[i].(string); return v }

// ErrStop, returned by a visitor, ends a query without an error.
var ErrStop = errors.New("stop")

// Query runs one statement and calls visit for each row. It ends with
// ctx.Err() when ctx is done between two rows; a visitor must not run the
// same statement on the same Conn.
func (c *Conn) Query(ctx context.Context, visit func(Row) error, sql string, args ...any) error {
	s, err := c.Prepare(sql)
	if err != nil {
		return err
	}
	if err := s.bind(args); err != nil {
		return err
	}
	return s.query(ctx, visit)
}

//nolint:contextcheck // see uninterrupted
func (s *Stmt) query(ctx context.Context, visit func(Row) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	rows, err := s.qu.QueryContext(uninterrupted, s.args)
	if err != nil {
		return wrap(s.c.path, err)
	}
	defer func() {
		if e := rows.Close(); e != nil && err == nil {
			err = wrap(s.c.path, e)
		}
	}()
	if n := len(rows.Columns()); len(s.dest) != n {
		s.dest = make([]driver.Value, n)
	}
	for {
		switch err := rows.Next(s.dest); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return wrap(s.c.path, err)
		}
		if err := visit(s.dest); err != nil {
			if errors.Is(err, ErrStop) {
				return nil
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// One runs a query for at most one row and reports whether there was one.
func (c *Conn) One(ctx context.Context, visit func(Row) error, sql string, args ...any) (bool, error) {
	found := false
	err := c.Query(ctx, func(r Row) error {
		found = true
		if err := visit(r); err != nil {
			return err
		}
		return ErrStop
	}, sql, args...)
	return found, err
}

func (s *Stmt) bind(args []any) error {
	nv := s.Args(len(args))
	for i, a := range args {
		switch v := a.(type) {
		case int64, string, []byte, nil:
			nv[i].Value = v
		case int:
			nv[i].Value = int64(v)
		case uint64:
			nv[i].Value = int64(v)
		default:
			return fmt.Errorf("litedb: argument %d has type %T", i+1, a)
		}
	}
	return nil
}

// Backup copies the whole database as this connection sees it into a new file
// at path, pages at a time. When the connection holds a read transaction, the
// copy is of that moment and writers do not disturb it.
func (c *Conn) Backup(ctx context.Context, path string, pages int32) error {
	b, ok := c.c.(interface {
		NewBackup(uri string) (*sqlite.Backup, error)
	})
	if !ok {
		return errors.New("sqlite driver without backup")
	}
	bk, err := b.NewBackup(FileURI(path))
	if err != nil {
		return wrap(path, err)
	}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, bk.Finish())
		}
		if more, err = bk.Step(pages); err != nil {
			return wrap(path, errors.Join(err, bk.Finish()))
		}
	}
	return wrap(path, bk.Finish())
}
