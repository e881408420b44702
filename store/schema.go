package store

import (
	"context"
	"embed"
	"fmt"
	"hash/crc32"
	"path"
	"strconv"

	"github.com/futago/futago"
	"github.com/futago/futago/store/internal/litedb"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// applicationID marks the file as ours (PRAGMA application_id): "FUTG".
const applicationID = 0x46555447

// SchemaVersion is the schema that this version of Futago writes. A database
// of an older one is brought up to it at open; a newer one is refused.
const SchemaVersion = 1

// migrate brings the schema of c up to version, one transaction per step.
func migrate(ctx context.Context, c *litedb.Conn, version int, product string) error {
	have, err := pragmaInt(ctx, c, "user_version")
	if err != nil {
		return err
	}
	app, err := pragmaInt(ctx, c, "application_id")
	if err != nil {
		return err
	}
	if app != applicationID && (app != 0 || have != 0) {
		return futago.Errorf(futago.CodeInvalid, "%s is the database of another program", c.Path()).
			WithAction("point the data directory at an empty directory or at one that Futago made")
	}
	if have > version {
		return newerSchema(ctx, c, have, version)
	}
	for v := have + 1; v <= version; v++ {
		sql, err := migrationFiles.ReadFile(path.Join("migrations", fmt.Sprintf("%04d.sql", v)))
		if err != nil {
			return fmt.Errorf("schema step %d: %w", v, err)
		}
		if err := step(ctx, c, v, string(sql), product); err != nil {
			_, _ = c.Exec("ROLLBACK") // there is none when BEGIN failed
			return fmt.Errorf("schema step %d: %w", v, err)
		}
	}
	return checkSchema(ctx, c)
}

// step does one step in one transaction. SQLite keeps both numbers in the file
// header, which is part of it.
func step(ctx context.Context, c *litedb.Conn, v int, sql, product string) error {
	if _, err := c.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := c.Script(sql + "\nPRAGMA application_id=" + strconv.Itoa(applicationID) +
		";\nPRAGMA user_version=" + strconv.Itoa(v) + ";"); err != nil {
		return err
	}
	sum, err := schemaSum(ctx, c)
	if err != nil {
		return err
	}
	if err := setMeta(c, "schema_sum", sum); err != nil {
		return err
	}
	if product != "" {
		if err := setMeta(c, "written_by", product); err != nil {
			return err
		}
	}
	_, err = c.Exec("COMMIT")
	return err
}

// checkSchema compares the table definitions with their sum: SQLite takes them
// from text in the file, and damage there shows as errors of all kinds.
func checkSchema(ctx context.Context, c *litedb.Conn) error {
	have, err := schemaSum(ctx, c)
	if err != nil {
		return err
	}
	want, err := getMeta(ctx, c, "schema_sum")
	if futago.CodeOf(err) == futago.CodeInternal || err == nil && have != want {
		return litedb.Corrupt(c.Path(), "the table definitions in %s are damaged", c.Path()).Wrap(err)
	}
	return err
}

func schemaSum(ctx context.Context, c *litedb.Conn) (string, error) {
	h := crc32.New(castagnoli)
	err := c.Query(ctx, func(r litedb.Row) error {
		_, err := fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00", r.Text(0), r.Text(1), r.Text(2), r.Text(3))
		return err
	}, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid")
	return fmt.Sprintf("%08x", h.Sum32()), err
}

// newerSchema names the version that can read the database. Table meta must
// stay readable in all versions for that.
func newerSchema(ctx context.Context, c *litedb.Conn, have, version int) error {
	by, err := getMeta(ctx, c, "written_by")
	if err != nil || by == "" {
		by = "a newer version"
	}
	return futago.Errorf(futago.CodeIncompatible,
		"database %s has schema %d, this program knows up to %d", c.Path(), have, version).
		WithAction("start Futago %s or newer, which wrote it", by)
}

func pragmaInt(ctx context.Context, c *litedb.Conn, name string) (int, error) {
	var n int
	_, err := c.One(ctx, func(r litedb.Row) error { n = int(r.Int(0)); return nil }, "PRAGMA "+name)
	return n, err
}

func getMeta(ctx context.Context, c *litedb.Conn, name string) (string, error) {
	var v string
	_, err := c.One(ctx, func(r litedb.Row) error { v = r.Text(0); return nil },
		"SELECT value FROM meta WHERE name = ?", name)
	return v, err
}

func setMeta(c *litedb.Conn, name, value string) error {
	_, err := c.Exec("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", name, value)
	return err
}
