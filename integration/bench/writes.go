package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/command"
)

// writeResult is what clients saw who made one change after another.
type writeResult struct {
	Name    string  `json:"name"`
	Goal    string  `json:"goal,omitempty"`
	Clients int     `json:"clients"`
	Writes  int     `json:"writes"`
	Rate    float64 `json:"per_second"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	Failed  int     `json:"failed"`
	Problem string  `json:"problem,omitempty"`
	Load    float64 `json:"load_average_before"`
}

// writeSeconds is how long each kind of client writes.
const writeSeconds = 8

// measureWrites runs clients for a while, each one change after another.
func measureWrites(ctx context.Context, name, goal string, clients int, write func(context.Context) error) *writeResult {
	r := &writeResult{Name: name, Goal: goal, Clients: clients, Load: loadAverage()}
	ctx, cancel := context.WithTimeout(ctx, writeSeconds*time.Second)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				t := time.Now()
				err := write(ctx)
				d := time.Since(t)
				if ctx.Err() != nil {
					return // cut off half way
				}
				mu.Lock()
				took = append(took, d)
				if err != nil {
					r.Failed++
					r.Problem = err.Error()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	slices.Sort(took)
	if n := len(took); n > 0 {
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		r.P50, r.P99, r.Max = ms(took[n/2]), ms(took[n*99/100]), ms(took[n-1])
		r.Writes = n - r.Failed
		r.Rate = float64(r.Writes) / elapsed.Seconds()
	}
	return r
}

// runWrites measures single changes: by Propose on a member inside this
// program, and by the REST API of the leader's process.
func runWrites(ctx context.Context, o *options) ([]*writeResult, error) {
	var out []*writeResult
	for _, l := range []struct {
		name string
		open func(string) (raftfsm.LogStore, error)
	}{{"Propose", nil}, {"Propose, log in memory", openMemoryLog}} {
		rs, err := runProposals(ctx, o, l.name, l.open)
		if err != nil {
			return out, fmt.Errorf("%s: %w", l.name, err)
		}
		out = append(out, rs...)
	}
	rs, err := runREST(ctx, o)
	return append(out, rs...), err
}

func runProposals(ctx context.Context, o *options, name string, open func(string) (raftfsm.LogStore, error)) (out []*writeResult, err error) {
	if o.profile != "" {
		stop, err := profileSelf(filepath.Join(o.profile, strings.ReplaceAll(name, " ", "-")+".profile"))
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	p, err := newPair(ctx, o, filepath.Join(o.dir, "pair"), open)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	write := func(ctx context.Context) error {
		var id command.ID
		_, _ = rand.Read(id[:])
		l := p.leader()
		if l == nil {
			return errors.New("nobody leads")
		}
		_, err := l.node.Propose(ctx, &command.PutToken{
			Meta:  command.Meta{ID: id, At: time.Now().UTC(), By: "bench"},
			Token: futago.Token{ID: hex.EncodeToString(id[:4]), Name: "bench", Role: futago.RoleViewer, SecretHash: "x"},
		})
		return err
	}
	goals := []string{"p50 < 2 ms", "6,000/s"}
	if open != nil {
		goals = []string{"", ""}
	}
	return []*writeResult{
		measureWrites(ctx, name, goals[0], 1, write),
		measureWrites(ctx, name, goals[1], 64, write),
	}, nil
}

func runREST(ctx context.Context, o *options) ([]*writeResult, error) {
	c, err := newCluster(ctx, o, filepath.Join(o.dir, "cluster"))
	if err != nil {
		return nil, err
	}
	defer c.stop()
	n, err := c.leader(ctx)
	if err != nil {
		return nil, err
	}
	local, err := n.api()
	if err != nil {
		return nil, err
	}
	defer local.Close()
	var made struct{ Token string }
	if err := local.Do(ctx, http.MethodPost, "/api/v1/tokens", newKey(), map[string]string{"name": "bench", "role": "admin"}, &made); err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(n.dir, "pki", "ca.crt"))
	if err != nil {
		return nil, err
	}
	api, err := client.New(client.Config{Addresses: []string{n.host + ":17700"}, CA: ca, Token: made.Token})
	if err != nil {
		return nil, err
	}
	defer api.Close()
	settings := func(ctx context.Context) error {
		var s map[string]any
		if err := api.Get(ctx, "/api/v1/settings/intake", nil, &s); err != nil {
			return err
		}
		return api.Do(ctx, http.MethodPut, "/api/v1/settings/intake", newKey(), whole(s), nil)
	}
	token := func(ctx context.Context) error {
		return api.Do(ctx, http.MethodPost, "/api/v1/tokens", newKey(), map[string]string{"name": "bench", "role": "viewer"}, nil)
	}
	return []*writeResult{
		measureWrites(ctx, "REST, make a token", "p50 < 2 ms", 1, token),
		measureWrites(ctx, "REST, make a token", "6,000/s", 64, token),
		measureWrites(ctx, "REST, read and change settings", "", 1, settings),
	}, nil
}

// profileSelf profiles this program until stop is called.
func profileSelf(path string) (stop func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// newKey makes an idempotency key.
func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}

// putSNMPUser makes the bench's SNMP user known to the cluster.
func (c *testCluster) putSNMPUser(ctx context.Context) error {
	n, err := c.leader(ctx)
	if err != nil {
		return err
	}
	api, err := n.api()
	if err != nil {
		return err
	}
	defer api.Close()
	var s map[string]any
	if err := api.Get(ctx, "/api/v1/settings/intake", nil, &s); err != nil {
		return err
	}
	u := benchUser()
	s["snmp_users"] = []map[string]string{{
		"name": u.Name, "auth": u.Auth, "auth_pass": u.AuthPass, "priv": "AES", "priv_pass": u.PrivPass,
	}}
	err = api.Do(ctx, http.MethodPut, "/api/v1/settings/intake", newKey(), whole(s), nil)
	if err != nil && strings.Contains(err.Error(), "revision") {
		return fmt.Errorf("somebody else changed the settings: %w", err)
	}
	return err
}

// whole gives settings that were never set the empty rules that a change must
// name.
func whole(settings map[string]any) map[string]any {
	if settings["dedup"] == nil {
		settings["dedup"] = map[string]any{}
	}
	return settings
}
