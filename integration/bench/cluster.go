package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/manager"
)

// The processes' addresses: all of 127.0.0.0/8 is this host.
const (
	witnessHost = "127.0.0.23"
	witnessAddr = witnessHost + ":17702"
	syslogPort  = 15514
	snmpPort    = 11162
)

// node is one manager's process.
type node struct {
	member futago.MemberID
	host   string
	dir    string
	proc   *process
}

// testCluster is a witness and two managers, each a process of the product.
type testCluster struct {
	bin     string // the product
	profile string // when set, managers run inside this program and write profiles there
	root    string
	witness *process
	nodes   []*node
}

// newCluster makes and starts a cluster in an empty directory.
func newCluster(ctx context.Context, o *options, root string) (_ *testCluster, err error) {
	if err := os.RemoveAll(root); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	c := &testCluster{bin: o.bin, root: root, profile: o.profile}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	wdir := filepath.Join(root, "witness")
	inv, err := c.futago(ctx, "witness", "invite", "--data", wdir, "--cluster", "bench", "--url", "https://"+witnessAddr)
	if err != nil {
		return nil, err
	}
	c.witness, err = startProcess(ctx, filepath.Join(root, "witness.log"), c.bin, "witness", "run", "--data", wdir, "--listen", witnessAddr)
	if err != nil {
		return nil, err
	}
	for i, m := range []futago.MemberID{futago.MemberA, futago.MemberB} {
		n := &node{member: m, host: fmt.Sprintf("127.0.0.%d", 21+i), dir: filepath.Join(root, string(m))}
		c.nodes = append(c.nodes, n)
		if err := n.writeConfig(); err != nil {
			return nil, err
		}
		where := []string{"--config", n.dir + ".toml", "--cluster", n.host + ":17701", "--address", n.host + ":17700"}
		err = eventually(ctx, 20*time.Second, func() error {
			args := append([]string{"init", "--name", "bench", "--witness", strings.TrimSpace(inv)}, where...)
			if i > 0 {
				token, err := c.futago(ctx, "token", "join", "--dir", c.nodes[0].dir, "--member", string(m))
				if err != nil {
					return err
				}
				args = append(append([]string{"join"}, where...), strings.TrimSpace(token))
			}
			_, err := c.futago(ctx, args...)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := c.start(ctx, n); err != nil {
			return nil, err
		}
	}
	return c, c.awaitFull(ctx, time.Minute)
}

func (n *node) writeConfig() error {
	c := manager.DefaultConfig()
	c.DataDir = n.dir
	c.APIListen, c.ClusterListen = n.host+":17700", n.host+":17701"
	c.MinFree = 1 << 30
	c.Syslog.UDP, c.Syslog.TCP, c.Syslog.TLS = fmt.Sprintf("%s:%d", n.host, syslogPort), "", ""
	c.SNMPTrap.UDP = fmt.Sprintf("%s:%d", n.host, snmpPort)
	c.CustomTrap.HTTP, c.CustomTrap.HTTPS = "", ""
	b, err := toml.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(n.dir+".toml", b, 0o600)
}

// start runs a manager's process.
func (c *testCluster) start(ctx context.Context, n *node) (err error) {
	log := filepath.Join(c.root, string(n.member)+".log")
	if c.profile == "" {
		n.proc, err = startProcess(ctx, log, c.bin, "manager", "--config", n.dir+".toml")
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	n.proc, err = startProcess(ctx, log, self, "-member", n.dir+".toml", "-pprof", n.host+":16060")
	return err
}

// stop ends all processes in an orderly way, the leader last.
func (c *testCluster) stop() {
	for _, n := range c.nodes {
		n.proc.stop(syscall.SIGTERM)
	}
	c.witness.stop(syscall.SIGTERM)
}

// futago runs one of the product's commands and returns what it printed.
func (c *testCluster) futago(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var out, errw bytes.Buffer
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("futago %s: %w: %s", args[0], err, strings.TrimSpace(errw.String()))
	}
	return out.String(), nil
}

// api returns a client of a manager's local socket.
func (n *node) api() (*client.Client, error) {
	return client.New(client.Config{Socket: filepath.Join(n.dir, manager.SocketName)})
}

func (n *node) status(ctx context.Context) (futago.ClusterStatus, error) {
	c, err := n.api()
	if err != nil {
		return futago.ClusterStatus{}, err
	}
	defer c.Close()
	return c.Status(ctx)
}

// awaitFull waits until the cluster has nothing to wish for.
func (c *testCluster) awaitFull(ctx context.Context, limit time.Duration) error {
	return eventually(ctx, limit, func() error {
		s, err := c.nodes[0].status(ctx)
		if err == nil && s.Redundancy != futago.RedundancyFull {
			err = fmt.Errorf("redundancy is %s: %s", s.Redundancy, strings.Join(s.Findings, "; "))
		}
		return err
	})
}

// leader returns the manager that acts.
func (c *testCluster) leader(ctx context.Context) (*node, error) {
	s, err := c.nodes[0].status(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if n.member == s.Leader {
			return n, nil
		}
	}
	return nil, errors.New("nobody leads")
}

// targets are where the generator sends to.
func (c *testCluster) targets() []generate.Target {
	out := make([]generate.Target, len(c.nodes))
	for i, n := range c.nodes {
		a := netip.MustParseAddr(n.host)
		out[i] = generate.Target{
			Member: n.member, SyslogUDP: netip.AddrPortFrom(a, syslogPort), SNMP: netip.AddrPortFrom(a, snmpPort),
		}
	}
	return out
}

// eventually repeats f until it succeeds.
func eventually(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
