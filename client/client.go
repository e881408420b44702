// Package client talks to a manager's REST API: for the command line, for tests,
// and for programs of others. It knows the way to the leader: a change that a
// standby refuses is sent again to the manager that it names.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/futago/futago"
)

// Config says where the API is and who asks.
type Config struct {
	// Addresses are host:port of the managers; the first that answers serves.
	Addresses []string
	// Socket is the path of a manager's local socket, used in place of Addresses.
	Socket string
	// CA is the cluster's CA certificate (PEM). Empty trusts the system's.
	CA []byte
	// Token is an API token; User and Password are used when it is empty.
	Token, User, Password string
	// Timeout bounds one request; 15 s when 0. Streams have none.
	Timeout time.Duration
	// Dial replaces the dialler, for those who reach managers another way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// StayPut keeps changes from following a standby's word to the leader.
	StayPut bool
}

// Client is safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client
	base []string // in the order of trying
}

// New makes a client; it does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	c := &Client{cfg: cfg}
	tr := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, DialContext: cfg.Dial}
	switch {
	case cfg.Socket != "":
		var d net.Dialer
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", cfg.Socket)
		}
		c.base = []string{"http://local"}
	case len(cfg.Addresses) > 0:
		for _, a := range cfg.Addresses {
			c.base = append(c.base, "https://"+strings.TrimPrefix(a, "https://"))
		}
	default:
		return nil, futago.Errorf(futago.CodeInvalid, "no manager to talk to").
			WithAction("run this on a manager's host, or name one with --api host:7700 (FUTAGO_API)")
	}
	if len(cfg.CA) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(cfg.CA) {
			return nil, futago.Errorf(futago.CodeInvalid, "the CA file holds no certificate").
				WithAction("copy pki/ca.crt from a manager's data directory")
		}
		tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	c.http = &http.Client{Transport: tr}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Problem is an RFC 9457 problem document, with this product's members.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Code is a futago.Code; Action the next thing to do.
	Code   futago.Code `json:"code"`
	Action string      `json:"action"`
	// Leader and LeaderAddress are where to send a change.
	Leader        futago.MemberID `json:"leader"`
	LeaderAddress string          `json:"leader_address"`
}

func (p *Problem) err() *futago.Error {
	e := &futago.Error{Code: p.Code, Message: p.Detail, Action: p.Action, Leader: p.Leader}
	if e.Message == "" {
		e.Message = p.Title
	}
	if e.Code == "" {
		e.Code = futago.CodeInternal
	}
	return e
}

// Get decodes the answer to a GET into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, "", out)
}

// Do sends a change with in as its JSON body (nil for none) and decodes the
// answer into out (nil to ignore it). The key makes a repetition harmless; the
// client repeats by itself when the outcome is unknown.
func (c *Client) Do(ctx context.Context, method, path, key string, in, out any) error {
	var body []byte
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = b
	}
	return c.do(ctx, method, path, body, key, out)
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, key string, out any) error {
	var errs []error
	for _, base := range c.base {
		err := c.once(ctx, method, base, path, body, key, out)
		if err == nil {
			return nil
		}
		if p, ok := errors.AsType[*problemError](err); ok {
			if p.Code == futago.CodeNotLeader && p.LeaderAddress != "" && c.cfg.Socket == "" && !c.cfg.StayPut {
				err = c.once(ctx, method, "https://"+p.LeaderAddress, path, body, key, out)
			}
			return unwrapProblem(err)
		}
		errs = append(errs, err)
	}
	where := strings.Join(c.cfg.Addresses, ", ")
	if c.cfg.Socket != "" {
		where = c.cfg.Socket
	}
	return futago.Errorf(futago.CodeUnavailable, "no manager answers at %s", where).
		WithAction("check that futago manager runs there and that the port is open").Wrap(errors.Join(errs...))
}

type problemError struct{ Problem }

func (p *problemError) Error() string { return p.err().Error() }

func unwrapProblem(err error) error {
	if p, ok := errors.AsType[*problemError](err); ok {
		return p.err()
	}
	return err
}

func (c *Client) request(ctx context.Context, method, base, path string, body []byte, key string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	switch {
	case c.cfg.Token != "":
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	case c.cfg.User != "":
		req.SetBasicAuth(c.cfg.User, c.cfg.Password)
	}
	return req, nil
}

func (c *Client) once(ctx context.Context, method, base, path string, body []byte, key string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := c.request(ctx, method, base, path, body, key)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return problem(res)
	}
	if out == nil || res.StatusCode == http.StatusNoContent {
		_, err := io.Copy(io.Discard, res.Body)
		return err
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return &problemError{Problem{
			Status: res.StatusCode, Code: futago.CodeIncompatible, Detail: fmt.Sprintf("the answer to %s %s is not understood: %v", method, path, err),
			Action: "use the futago of the manager's version",
		}}
	}
	return nil
}

func problem(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	p := &problemError{}
	if json.Unmarshal(b, &p.Problem) != nil || p.Status == 0 {
		p.Problem = Problem{Status: res.StatusCode, Detail: fmt.Sprintf("%s: %s", res.Status, bytes.TrimSpace(b))}
	}
	return p
}
