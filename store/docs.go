package store

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"github.com/futago/futago"
	"github.com/futago/futago/store/internal/litedb"
)

// Classes of documents.
const (
	classSettings = "settings"
	classUser     = "user"
	classToken    = "token"
	classRule     = "rule"

	intakeSettings = "intake"
)

func docSum(class, name string, doc []byte) int64 {
	h := crc32.Checksum([]byte(class), castagnoli)
	h = crc32.Update(h, castagnoli, []byte{0})
	h = crc32.Update(h, castagnoli, []byte(name))
	h = crc32.Update(h, castagnoli, []byte{0})
	return int64(crc32.Update(h, castagnoli, doc))
}

func putDoc(c *litedb.Conn, class, name string, v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s %q: %w", class, name, err)
	}
	_, err = c.Exec("INSERT OR REPLACE INTO docs (class, name, doc, sum) VALUES (?, ?, ?, ?)",
		class, name, doc, docSum(class, name, doc))
	return err
}

// parseDoc decodes a row of name, doc, sum.
func parseDoc[T any](path, class string, r litedb.Row) (v T, err error) {
	name, doc := r.Text(0), r.Bytes(1)
	if docSum(class, name, doc) != r.Int(2) {
		return v, litedb.Corrupt(path, "%s %q in %s fails its checksum", class, name, path)
	}
	if err := json.Unmarshal(doc, &v); err != nil {
		return v, litedb.Corrupt(path, "%s %q in %s cannot be decoded", class, name, path).Wrap(err)
	}
	return v, nil
}

func getDoc[T any](ctx context.Context, c *litedb.Conn, class, name string) (v T, found bool, err error) {
	found, err = c.One(ctx, func(r litedb.Row) (err error) {
		v, err = parseDoc[T](c.Path(), class, r)
		return err
	}, "SELECT name, doc, sum FROM docs WHERE class = ? AND name = ?", class, name)
	return v, found, err
}

func listDocs[T any](ctx context.Context, c *litedb.Conn, class string) (list []T, err error) {
	err = c.Query(ctx, func(r litedb.Row) error {
		v, err := parseDoc[T](c.Path(), class, r)
		list = append(list, v)
		return err
	}, "SELECT name, doc, sum FROM docs WHERE class = ? ORDER BY name", class)
	return list, err
}

func deleteDoc(c *litedb.Conn, class, name string) (bool, error) {
	n, err := c.Exec("DELETE FROM docs WHERE class = ? AND name = ?", class, name)
	return n > 0, err
}

func readDoc[T any](ctx context.Context, s *Store, class, name string) (v T, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		var found bool
		v, found, err = getDoc[T](ctx, c, class, name)
		if err == nil && !found {
			return futago.Errorf(futago.CodeNotFound, "%s %q does not exist", class, name)
		}
		return err
	})
	return v, err
}

func readDocs[T any](ctx context.Context, s *Store, class string) (list []T, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		list, err = listDocs[T](ctx, c, class)
		return err
	})
	return list, err
}

// Settings returns the intake settings, the zero value (revision 0) before
// any were put.
func (s *Store) Settings(ctx context.Context) (v futago.IntakeSettings, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		v, _, err = getDoc[futago.IntakeSettings](ctx, c, classSettings, intakeSettings)
		return err
	})
	return v, err
}

// User returns a user; CodeNotFound when there is none of that name.
func (s *Store) User(ctx context.Context, name string) (futago.User, error) {
	return readDoc[futago.User](ctx, s, classUser, name)
}

// Users returns all users in the order of their names.
func (s *Store) Users(ctx context.Context) ([]futago.User, error) {
	return readDocs[futago.User](ctx, s, classUser)
}

// Token returns a token by its public id; CodeNotFound when there is none.
func (s *Store) Token(ctx context.Context, id string) (futago.Token, error) {
	return readDoc[futago.Token](ctx, s, classToken, id)
}

// Tokens returns all tokens in the order of their ids.
func (s *Store) Tokens(ctx context.Context) ([]futago.Token, error) {
	return readDocs[futago.Token](ctx, s, classToken)
}

// Settings is [Store.Settings] as the transaction sees it.
func (tx *Tx) Settings() (futago.IntakeSettings, error) {
	v, _, err := getDoc[futago.IntakeSettings](context.Background(), tx.c, classSettings, intakeSettings)
	return v, err
}

// PutSettings replaces the intake settings. Their secrets must be sealed, for
// others are written masked.
func (tx *Tx) PutSettings(v futago.IntakeSettings) error {
	return putDoc(tx.c, classSettings, intakeSettings, v)
}

// User returns a user and whether there is one.
func (tx *Tx) User(name string) (futago.User, bool, error) {
	return getDoc[futago.User](context.Background(), tx.c, classUser, name)
}

// Users returns all users in the order of their names.
func (tx *Tx) Users() ([]futago.User, error) {
	return listDocs[futago.User](context.Background(), tx.c, classUser)
}

// PutUser creates or replaces a user.
func (tx *Tx) PutUser(u futago.User) error { return putDoc(tx.c, classUser, u.Name, u) }

// DeleteUser removes a user and reports whether there was one.
func (tx *Tx) DeleteUser(name string) (bool, error) { return deleteDoc(tx.c, classUser, name) }

// Token returns a token and whether there is one.
func (tx *Tx) Token(id string) (futago.Token, bool, error) {
	return getDoc[futago.Token](context.Background(), tx.c, classToken, id)
}

// PutToken creates or replaces a token.
func (tx *Tx) PutToken(t futago.Token) error { return putDoc(tx.c, classToken, t.ID, t) }

// DeleteToken removes a token and reports whether there was one.
func (tx *Tx) DeleteToken(id string) (bool, error) { return deleteDoc(tx.c, classToken, id) }

// Rule is a de-duplication rule under the number that events keep.
type Rule struct {
	Number uint32           `json:"number"`
	Rule   futago.DedupRule `json:"rule"`
}

// Rules returns all rules that events were made under. Numbers are never reused.
func (s *Store) Rules(ctx context.Context) ([]Rule, error) { return readDocs[Rule](ctx, s, classRule) }

// PutRule stores a rule under a new number.
func (tx *Tx) PutRule(r Rule) error {
	return putDoc(tx.c, classRule, fmt.Sprintf("%010d", r.Number), r)
}

// State returns what [Tx.PutState] stored under a name, nil when it did not.
func (s *Store) State(ctx context.Context, name string) (value []byte, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		_, err := c.One(ctx, func(r litedb.Row) error {
			value = r.Bytes(0)
			if docSum("state", name, value) != r.Int(1) {
				return litedb.Corrupt(c.Path(), "state %q in %s fails its checksum", name, c.Path())
			}
			return nil
		}, "SELECT value, sum FROM state WHERE name = ?", name)
		return err
	})
	return value, err
}

// PutState stores the state of a part of the state machine in its own encoding.
func (tx *Tx) PutState(name string, value []byte) error {
	if len(value) == 0 {
		_, err := tx.c.Exec("DELETE FROM state WHERE name = ?", name)
		return err
	}
	_, err := tx.c.Exec("INSERT OR REPLACE INTO state (name, value, sum) VALUES (?, ?, ?)",
		name, value, docSum("state", name, value))
	return err
}
