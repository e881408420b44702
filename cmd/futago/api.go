package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/manager"
)

// client connects to the managers named by flags, or else to this host's own
// over its local socket, which the data directory's owner may use without
// further credentials.
func (e *env) client() (*client.Client, error) {
	g := e.global
	cfg := client.Config{Addresses: g.API, Token: g.APIToken}
	if g.CA != "" {
		pem, err := os.ReadFile(g.CA)
		if err != nil {
			return nil, futago.Errorf(futago.CodeInvalid, "the CA file cannot be read").Wrap(err)
		}
		cfg.CA = pem
	}
	if len(g.API) == 0 {
		socket := filepath.Join(g.Dir, manager.SocketName)
		if _, err := os.Stat(socket); err != nil {
			return nil, futago.Errorf(futago.CodeUnavailable, "no manager runs here: %v", err).
				WithAction("start it (futago manager), give its directory with --dir, or name a manager with --api host:7700")
		}
		cfg.Socket = socket
	}
	return client.New(cfg)
}

// call makes one request and prints its result with show, or as JSON.
func call[T any](e *env, request func(c *client.Client, out *T) error, show func(t *tabwriter.Writer, v T)) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	defer c.Close()
	var v T
	if err := request(c, &v); err != nil {
		return err
	}
	return e.print(v, func(t *tabwriter.Writer) { show(t, v) })
}

// print writes v as JSON or by show, as --output says.
func (e *env) print(v any, show func(t *tabwriter.Writer)) error {
	if e.global.Output == "json" {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	t := tabwriter.NewWriter(e.out, 0, 8, 2, ' ', 0)
	show(t)
	return t.Flush()
}

// row writes one line of a table.
func row(t *tabwriter.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, c)
	}
	fmt.Fprintln(t)
}

// newKey makes the idempotency key of one change: kept over the client's
// repetitions, so that the change happens once.
func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
