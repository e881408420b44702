package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/httpapi"
)

type userCmd struct {
	List     userListCmd     `cmd:"" default:"1" help:"List the users."`
	Add      userAddCmd      `cmd:"" help:"Add a user; the password is asked for, or read from standard input."`
	Password userPasswordCmd `cmd:"" help:"Set a user's password."`
	Remove   userRemoveCmd   `cmd:"" help:"Remove a user."`
}

type userListCmd struct{}

// Run lists the users.
func (*userListCmd) Run(e *env) error {
	return call(e, func(c *client.Client, out *[]httpapi.UserView) error {
		return c.Get(e.ctx, "/api/v1/users", nil, out)
	}, func(t *tabwriter.Writer, us []httpapi.UserView) {
		row(t, "NAME", "ROLE", "CREATED")
		for _, u := range us {
			row(t, u.Name, u.Role, u.CreatedAt.Local().Format(time.DateTime))
		}
	})
}

type userAddCmd struct {
	Name string `arg:"" help:"Name of the user."`
	Role string `help:"${enum}." enum:"admin,operator,viewer" default:"viewer"`
}

// Help shows examples.
func (*userAddCmd) Help() string {
	return examples("futago user add me --role admin", "futago user add monitor < password-file")
}

// userRequest is the body of a change of a user.
type userRequest struct {
	Name     string `json:"name,omitempty"`
	Role     string `json:"role,omitempty"`
	Password string `json:"password,omitempty"`
}

// Run adds the user.
func (c *userAddCmd) Run(e *env) error {
	pw, err := readPassword(e)
	if err != nil {
		return err
	}
	return call(e, func(cl *client.Client, _ *struct{}) error {
		return cl.Do(e.ctx, http.MethodPost, "/api/v1/users", newKey(), userRequest{c.Name, c.Role, pw}, nil)
	}, func(t *tabwriter.Writer, _ struct{}) { row(t, "User "+c.Name+" added.") })
}

type userPasswordCmd struct {
	Name string `arg:"" help:"Name of the user."`
}

// Run sets the password.
func (c *userPasswordCmd) Run(e *env) error {
	pw, err := readPassword(e)
	if err != nil {
		return err
	}
	return call(e, func(cl *client.Client, _ *struct{}) error {
		return cl.Do(e.ctx, http.MethodPut, "/api/v1/users/"+url.PathEscape(c.Name), newKey(), userRequest{Password: pw}, nil)
	}, func(t *tabwriter.Writer, _ struct{}) { row(t, "Password of "+c.Name+" set.") })
}

// readPassword asks twice at a terminal, and takes one line of anything else.
func readPassword(e *env) (string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if line == "" && err != nil {
			return "", futago.Errorf(futago.CodeInvalid, "no password on standard input").Wrap(err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	var got [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(e.err, prompt)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(e.err)
		if err != nil {
			return "", err
		}
		got[i] = string(b)
	}
	if got[0] != got[1] {
		return "", futago.Errorf(futago.CodeInvalid, "the two passwords differ")
	}
	return got[0], nil
}

type userRemoveCmd struct {
	Name string `arg:"" help:"Name of the user."`
}

// Run removes the user.
func (c *userRemoveCmd) Run(e *env) error {
	return call(e, func(cl *client.Client, _ *struct{}) error {
		return cl.Do(e.ctx, http.MethodDelete, "/api/v1/users/"+url.PathEscape(c.Name), newKey(), nil, nil)
	}, func(t *tabwriter.Writer, _ struct{}) { row(t, "User "+c.Name+" removed.") })
}

type tokenCmd struct {
	List   tokenListCmd   `cmd:"" default:"1" help:"List the API tokens."`
	Create tokenCreateCmd `cmd:"" help:"Make an API token; it is shown once."`
	Remove tokenRemoveCmd `cmd:"" help:"Remove an API token."`
	Join   tokenJoinCmd   `cmd:"" help:"Make a one-time token for futago join on another host."`
}

type tokenListCmd struct{}

// Run lists the tokens.
func (*tokenListCmd) Run(e *env) error {
	return call(e, func(c *client.Client, out *[]httpapi.TokenView) error {
		return c.Get(e.ctx, "/api/v1/tokens", nil, out)
	}, func(t *tabwriter.Writer, ts []httpapi.TokenView) {
		row(t, "ID", "NAME", "ROLE", "CREATED BY", "EXPIRES")
		for _, k := range ts {
			expires := "never"
			if !k.ExpiresAt.IsZero() {
				expires = k.ExpiresAt.Local().Format(time.DateTime)
			}
			row(t, k.ID, k.Name, k.Role, k.CreatedBy, expires)
		}
	})
}

type tokenCreateCmd struct {
	Name    string        `arg:"" help:"What it is for."`
	Role    string        `help:"${enum}." enum:"admin,operator,viewer" default:"viewer"`
	Expires time.Duration `help:"How long it is good for; 0 is without end." default:"0"`
}

// Help shows examples.
func (*tokenCreateCmd) Help() string {
	return examples(
		"futago token create monitoring --expires 8760h > /root/futago.token",
		"FUTAGO_TOKEN=$(cat futago.token) futago status --api hostA:7700,hostB:7700 --ca ca.crt",
	)
}

// Run prints the token alone, so that it can be piped.
func (c *tokenCreateCmd) Run(e *env) error {
	in := struct {
		Name      string          `json:"name"`
		Role      string          `json:"role"`
		ExpiresIn futago.Duration `json:"expires_in,omitempty"`
	}{c.Name, c.Role, futago.Duration(c.Expires)}
	type created struct {
		Token string `json:"token"`
		ID    string `json:"id"`
	}
	return call(e, func(cl *client.Client, out *created) error {
		return cl.Do(e.ctx, http.MethodPost, "/api/v1/tokens", newKey(), in, out)
	}, func(t *tabwriter.Writer, k created) { row(t, k.Token) })
}

type tokenRemoveCmd struct {
	ID string `arg:"" help:"Id of the token, from futago token list."`
}

// Run removes the token.
func (c *tokenRemoveCmd) Run(e *env) error {
	return call(e, func(cl *client.Client, _ *struct{}) error {
		return cl.Do(e.ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(c.ID), newKey(), nil, nil)
	}, func(t *tabwriter.Writer, _ struct{}) { row(t, "Token "+c.ID+" removed.") })
}

type tokenJoinCmd struct {
	Member string        `help:"Which member joins: ${enum}." enum:"a,b,w" default:"b"`
	Valid  time.Duration `help:"How long the token is good for." default:"1h"`
}

// Help tells the uses.
func (*tokenJoinCmd) Help() string {
	return "For a new member, and for one whose data directory is lost: whoever joins with the token takes its place.\n\n" +
		examples("futago token join --member b", "futago token join --member a    on manager b, when a's host is lost")
}

// Run prints the token alone, so that it can be piped.
func (c *tokenJoinCmd) Run(e *env) error {
	in := struct {
		Member string          `json:"member"`
		Valid  futago.Duration `json:"valid"`
	}{c.Member, futago.Duration(c.Valid)}
	type issued struct {
		Token string `json:"token"`
	}
	return call(e, func(cl *client.Client, out *issued) error {
		return cl.Do(e.ctx, http.MethodPost, "/api/v1/join-tokens", newKey(), in, out)
	}, func(t *tabwriter.Writer, k issued) { row(t, k.Token) })
}
