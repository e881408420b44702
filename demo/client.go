package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/manager"
)

// ask talks to manager a over its local socket.
func (d *demo) ask(f func(c *client.Client) error) error {
	c, err := client.New(client.Config{Socket: d.path("a/" + manager.SocketName)})
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

// addUser makes the user of the console, or gives the one of an earlier time a
// new password.
func (d *demo) addUser(ctx context.Context) error {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	d.secret = hex.EncodeToString(b[:8])
	key := hex.EncodeToString(b[8:]) // the same for all tries: they are one change
	type user struct {
		Name     string `json:"name,omitempty"`
		Role     string `json:"role,omitempty"`
		Password string `json:"password"`
	}
	err := retry(ctx, func() error {
		return d.ask(func(c *client.Client) error {
			return c.Do(ctx, http.MethodPost, "/api/v1/users", key, user{d.user, string(futago.RoleAdmin), d.secret}, nil)
		})
	})
	if futago.CodeOf(err) != futago.CodeConflict {
		return err
	}
	return retry(ctx, func() error {
		return d.ask(func(c *client.Client) error {
			return c.Do(ctx, http.MethodPut, "/api/v1/users/"+d.user, key, user{Password: d.secret}, nil)
		})
	})
}

// full returns nil once the cluster has nothing to wish for.
func (d *demo) full(ctx context.Context) error {
	return d.ask(func(c *client.Client) error {
		s, err := c.Status(ctx)
		if err == nil && s.Redundancy != futago.RedundancyFull {
			err = futago.Errorf(futago.CodeUnavailable, "redundancy is %s: %s", s.Redundancy, strings.Join(s.Findings, "; "))
		}
		return err
	})
}
