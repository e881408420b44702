package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/generate"
)

// peerResult is what rsyslog made of the same traps, written into PostgreSQL
// with a synchronous standby.
type peerResult struct {
	Name    string  `json:"name"`
	Offered float64 `json:"offered_per_second"`
	Sent    int     `json:"sent"`
	Stored  int64   `json:"stored"`
	Seconds float64 `json:"seconds"` // to the last row stored
	Rate    float64 `json:"stored_per_second"`
	Drops   int64   `json:"kernel_drops"`
	CutOff  bool    `json:"cut_off"` // the bench did not wait for the rest
	Load    float64 `json:"load_average_before"`
	CPU     float64 `json:"cpu_seconds"` // of rsyslog and both PostgreSQL
}

// peerReport compares both.
type peerReport struct {
	Skipped string        `json:"skipped,omitempty"`
	Peers   []*peerResult `json:"peers,omitempty"`
	Futago  *loadResult   `json:"futago,omitempty"`
	// Ratio is this product's rate, both managers, over the best of the peers';
	// RatioDefault over that of rsyslog as it is configured by default.
	Ratio        float64 `json:"ratio"`
	RatioDefault float64 `json:"ratio_default"`
}

// The peer's load and how long it may take to store it.
const (
	peerRate     = 30_000
	peerSeconds  = 15
	peerPatience = 45 * time.Second
	peerHost     = "127.0.0.24"
	peerPort     = 15514
	pgPrimary    = "15432"
	pgStandby    = "15433"
)

// runPeer sends one load to rsyslog, in two configurations, and to this product.
func runPeer(ctx context.Context, o *options) (*peerReport, error) {
	r := &peerReport{}
	bin, err := findPostgres()
	if err != nil {
		r.Skipped = err.Error()
		return r, nil
	}
	// Not below the build directory: the user postgres must reach it.
	root, err := os.MkdirTemp("", "futago-bench-pg-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(root)
	pg := &postgres{bin: bin, root: root}
	defer pg.stop()
	if err := pg.start(ctx); err != nil {
		r.Skipped = fmt.Sprintf("PostgreSQL did not start: %v", err)
		return r, nil
	}
	for i, p := range []struct{ name, action string }{
		{"rsyslog, ompgsql as it is by default", ""},
		{"rsyslog, ompgsql with a queue and batches of 2,048", `queue.type="LinkedList" queue.size="2000000" queue.dequeueBatchSize="2048" queue.workerThreads="1"`},
		{"the same with 4 workers", `queue.type="LinkedList" queue.size="2000000" queue.dequeueBatchSize="2048" queue.workerThreads="4" queue.workerThreadMinimumMessages="2048"`},
	} {
		res, err := pg.measure(ctx, p.name, p.action, uint32(100+i))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		r.Peers = append(r.Peers, res)
	}
	pg.stop()
	c, err := newCluster(ctx, o, filepath.Join(o.dir, "cluster"))
	if err != nil {
		return nil, err
	}
	defer c.stop()
	l := load{Name: "futago", flavour: generate.SyslogBSD, rate: peerRate, seconds: peerSeconds, port: syslogPort}
	if r.Futago, err = c.runLoad(ctx, l, 200); err != nil {
		return nil, err
	}
	c.stop()
	if err := c.audit(ctx, []*loadResult{r.Futago}); err != nil {
		return nil, err
	}
	best := 0.0
	for _, p := range r.Peers {
		best = max(best, p.Rate)
	}
	r.Ratio, r.RatioDefault = r.Futago.Committed/best, r.Futago.Committed/r.Peers[0].Rate
	return r, nil
}

// findPostgres looks for what the Debian packages postgresql-15 and
// rsyslog-pgsql bring.
func findPostgres() (bin string, err error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(dirs) == 0 {
		return "", errors.New("PostgreSQL is not installed (apt-get install postgresql-15)")
	}
	mods, err := filepath.Glob("/usr/lib/*/rsyslog/ompgsql.so")
	if err != nil || len(mods) == 0 {
		return "", errors.New("rsyslog's ompgsql is not installed (apt-get install rsyslog-pgsql)")
	}
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		return "", errors.New("rsyslog is not installed (apt-get install rsyslog)")
	}
	if _, err := user.Lookup("postgres"); err != nil || os.Geteuid() != 0 {
		return "", errors.New("PostgreSQL needs its own user, so the bench must run as root")
	}
	return filepath.Dir(dirs[len(dirs)-1]), nil
}

// postgres is a primary and a synchronous standby on loopback.
type postgres struct {
	bin, root string
	processes []*process
}

// as runs a program as the user postgres and returns what it printed.
func (p *postgres) as(ctx context.Context, name string, args ...string) (string, error) {
	cmd := p.command(ctx, name, args...)
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(errw.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.root
	if u, err := user.Lookup("postgres"); err == nil {
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return cmd
}

// serve starts a server process on a directory.
func (p *postgres) serve(ctx context.Context, dir, port string) error {
	proc, err := startCommand(p.command(ctx, "postgres", "-D", dir, "-p", port), filepath.Join(p.root, filepath.Base(dir)+".log"))
	if err != nil {
		return err
	}
	p.processes = append(p.processes, proc)
	return eventually(ctx, 30*time.Second, func() error {
		_, err := p.as(ctx, "pg_isready", "-h", "127.0.0.1", "-p", port)
		return err
	})
}

func (p *postgres) sql(ctx context.Context, db, q string) (string, error) {
	return p.as(ctx, "psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", pgPrimary, "-d", db, "-c", q)
}

func (p *postgres) start(ctx context.Context) error {
	if err := os.Chmod(p.root, 0o777); err != nil { //nolint:gosec // the user postgres works here
		return err
	}
	primary, standby := filepath.Join(p.root, "primary"), filepath.Join(p.root, "standby")
	if _, err := p.as(ctx, "initdb", "-D", primary, "-U", "postgres", "--auth=trust", "-E", "UTF8"); err != nil {
		return err
	}
	conf := fmt.Sprintf(`
listen_addresses = '127.0.0.1'
unix_socket_directories = '%s'
shared_buffers = 256MB
wal_level = replica
max_wal_senders = 4
hot_standby = on
max_wal_size = 4GB
synchronous_commit = on
synchronous_standby_names = '%s'
`, p.root, "%s")
	add := func(dir, standbys string) error {
		f, err := os.OpenFile(filepath.Join(dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, conf, standbys)
		return errors.Join(err, f.Close())
	}
	if err := add(primary, ""); err != nil {
		return err
	}
	if err := p.serve(ctx, primary, pgPrimary); err != nil {
		return err
	}
	if _, err := p.as(ctx, "pg_basebackup", "-h", "127.0.0.1", "-p", pgPrimary, "-U", "postgres", "-D", standby, "-R"); err != nil {
		return err
	}
	auto, err := os.OpenFile(filepath.Join(standby, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(auto, "primary_conninfo = 'host=127.0.0.1 port=%s user=postgres application_name=standby'\n", pgPrimary)
	if err := errors.Join(err, auto.Close()); err != nil {
		return err
	}
	if err := p.serve(ctx, standby, pgStandby); err != nil {
		return err
	}
	for _, q := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()", `CREATE DATABASE "Syslog"`} {
		if _, err := p.sql(ctx, "postgres", q); err != nil {
			return err
		}
	}
	return eventually(ctx, 30*time.Second, func() error {
		s, err := p.sql(ctx, "postgres", "SELECT sync_state FROM pg_stat_replication")
		if err == nil && s != "sync" {
			err = fmt.Errorf("the standby is %q", s)
		}
		return err
	})
}

func (p *postgres) stop() {
	for _, q := range slices.Backward(p.processes) {
		q.stop(syscall.SIGINT) // fast shutdown
	}
	p.processes = nil
}

// measure sends the load to one rsyslog and counts what is in the table.
func (p *postgres) measure(ctx context.Context, name, action string, run uint32) (*peerResult, error) {
	script, err := os.ReadFile("/usr/share/dbconfig-common/data/rsyslog-pgsql/install/pgsql")
	if err != nil {
		return nil, err
	}
	if _, err := p.sql(ctx, "Syslog", "DROP TABLE IF EXISTS SystemEvents, SystemEventsProperties;"+string(script)); err != nil {
		return nil, err
	}
	conf := filepath.Join(p.root, "rsyslog.conf")
	text := fmt.Sprintf(`global(workDirectory="%s" net.enableDNS="off")
module(load="imudp")
module(load="ompgsql")
input(type="imudp" address="%s" port="%d" rcvbufSize="32m")
action(type="ompgsql" server="127.0.0.1" port="%s" db="Syslog" user="postgres" pass="x" %s)
`, p.root, peerHost, peerPort, pgPrimary, action)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil { //nolint:gosec // no secret in it
		return nil, err
	}
	daemon, err := startProcess(ctx, filepath.Join(p.root, "rsyslog.log"), "rsyslogd", "-n", "-f", conf, "-i", filepath.Join(p.root, "rsyslog.pid"))
	if err != nil {
		return nil, err
	}
	defer daemon.stop(syscall.SIGKILL)
	time.Sleep(time.Second) // rsyslog says to nobody when it listens
	r := &peerResult{Name: name, Load: loadAverage()}
	drops, used := udpDrops(peerHost, peerPort), p.cpu()+cpu(daemon.cmd.Process.Pid)
	addr := netip.AddrPortFrom(netip.MustParseAddr(peerHost), peerPort)
	start := time.Now()
	sent, err := generate.Blast{
		Flavour: generate.SyslogBSD, Targets: []generate.Target{{Member: futago.MemberA, SyslogUDP: addr}},
		Run: run, Rate: peerRate, Count: peerRate * peerSeconds, Duration: 2 * peerSeconds * time.Second, Host: "bench",
	}.Send(ctx)
	if err != nil {
		return nil, err
	}
	r.Sent, r.Offered = sent.Occurrences, sent.Rate()
	moved, last := time.Now(), start
	for {
		s, err := p.sql(ctx, "Syslog", "SELECT count(*) FROM SystemEvents")
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, err
		}
		if n > r.Stored {
			r.Stored, moved, last = n, time.Now(), time.Now()
		}
		r.Drops = udpDrops(peerHost, peerPort) - drops
		if r.Stored+r.Drops >= int64(r.Sent) || time.Since(moved) > 3*time.Second {
			break
		}
		if time.Since(sent.Last) > peerPatience {
			r.CutOff = true
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	r.CPU = (p.cpu() + cpu(daemon.cmd.Process.Pid) - used).Seconds()
	r.Seconds = last.Sub(start).Seconds()
	r.Rate = float64(r.Stored) / r.Seconds
	return r, nil
}

// cpu is the processor time of both servers and of their children.
func (p *postgres) cpu() (sum time.Duration) {
	for _, q := range p.processes {
		sum += treeCPU(q.cmd.Process.Pid)
	}
	return sum
}
