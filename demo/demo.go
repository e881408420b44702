// Package demo runs a whole cluster on loopback: a witness, two managers and a
// trickle of sample traps, each of the three a process of its own, so that one
// can be killed and watched.
package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sync/errgroup"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/manager"
)

// Options of a demonstration.
type Options struct {
	// Dir takes everything; a temporary one when empty, removed at the end.
	Dir string
	// Out takes what people read.
	Out io.Writer
	// Rate is sample traps a second.
	Rate float64
	// Restart is how long a killed process stays away.
	Restart time.Duration
}

// The demonstration's addresses: all of 127.0.0.0/8 is this host.
const (
	hostA, hostB, hostW = "127.0.0.11", "127.0.0.12", "127.0.0.13"
	witnessPort         = "7702"
)

type demo struct {
	o    Options
	exe  string
	user string
	pass string
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "futago-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	}
	var b [9]byte
	_, _ = rand.Read(b[:])
	d := &demo{o: o, exe: exe, user: "demo", pass: hex.EncodeToString(b[:])}
	g, ctx := errgroup.WithContext(ctx)
	if err := d.start(ctx, g); err != nil {
		// What was started ends with ctx.
		return errors.Join(err, cancelled(g, ctx))
	}
	return g.Wait()
}

// cancelled makes the group end and waits for it.
func cancelled(g *errgroup.Group, ctx context.Context) error {
	errStop := errors.New("stopped")
	g.Go(func() error { return errStop })
	<-ctx.Done()
	if err := g.Wait(); !errors.Is(err, errStop) {
		return err
	}
	return nil
}

// start brings the parts up in the order in which an operator would.
func (d *demo) start(ctx context.Context, g *errgroup.Group) error {
	fmt.Fprintf(d.o.Out, "Starting a witness and two managers in %s …\n", d.o.Dir)
	wdir := d.path("witness")
	inv, err := d.futago(ctx, "", "witness", "invite", "--data", wdir, "--cluster", "demo", "--url", "https://"+hostW+":"+witnessPort)
	if err != nil {
		return err
	}
	g.Go(func() error {
		return d.supervise(ctx, "witness", "witness", "run", "--data", wdir, "--listen", hostW+":"+witnessPort)
	})
	for _, m := range []struct{ name, host string }{{"a", hostA}, {"b", hostB}} {
		if err := d.writeConfig(m.name, m.host); err != nil {
			return err
		}
		where := []string{"--config", d.path(m.name + ".toml"), "--cluster", m.host + ":7701", "--address", m.host + ":7700"}
		if m.name == "a" {
			err = retry(ctx, func() error {
				_, err := d.futago(ctx, "", append([]string{"init", "--name", "demo", "--witness", strings.TrimSpace(inv)}, where...)...)
				return err
			})
		} else {
			var token string
			if err = retry(ctx, func() (err error) {
				token, err = d.futago(ctx, "", "token", "join", "--dir", d.path("a"), "--member", m.name)
				return err
			}); err == nil {
				_, err = d.futago(ctx, "", append(append([]string{"join"}, where...), strings.TrimSpace(token))...)
			}
		}
		if err != nil {
			return err
		}
		g.Go(func() error {
			return d.supervise(ctx, "manager "+m.name, "manager", "--config", d.path(m.name+".toml"))
		})
	}
	if err := retry(ctx, func() error {
		_, err := d.futago(ctx, d.pass+"\n", "user", "add", d.user, "--role", "admin", "--dir", d.path("a"))
		if err != nil && strings.Contains(err.Error(), "exists") {
			return nil // an earlier try got through
		}
		return err
	}); err != nil {
		return err
	}
	if err := retry(ctx, func() error { return d.full(ctx) }); err != nil {
		return err
	}
	d.explain()
	g.Go(func() error { return trickle(ctx, d.o.Rate) })
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.o.Dir, name) }

// futago runs the product's own command and returns what it printed.
func (d *demo) futago(ctx context.Context, stdin string, args ...string) (string, error) {
	var out, errw bytes.Buffer
	cmd := exec.CommandContext(ctx, d.exe, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errw
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("futago %s: %w: %s", args[0], err, strings.TrimSpace(errw.String()))
	}
	return out.String(), nil
}

// startLimit bounds how long a part may take to come up.
const startLimit = 60 * time.Second

// retry repeats f until it succeeds: the parts come up side by side.
func retry(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the demonstration did not come up: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// writeConfig makes one manager's configuration, with ports that need no root.
func (d *demo) writeConfig(name, host string) error {
	c := manager.DefaultConfig()
	c.DataDir = d.path(name)
	c.APIListen, c.ClusterListen = host+":7700", host+":7701"
	c.Heartbeat = futago.Duration(200 * time.Millisecond)
	c.MinFree = 64 << 20
	c.Syslog.UDP, c.Syslog.TCP, c.Syslog.TLS = host+":5514", host+":5514", host+":6514"
	c.SNMPTrap.UDP = host + ":1162"
	c.CustomTrap.HTTP = host + ":8082"
	b, err := toml.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(d.path(name+".toml"), b, 0o600)
}

// full returns nil once the cluster has nothing to wish for.
func (d *demo) full(ctx context.Context) error {
	c, err := client.New(client.Config{Socket: filepath.Join(d.path("a"), manager.SocketName)})
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err == nil && s.Redundancy != futago.RedundancyFull {
		err = fmt.Errorf("redundancy is %s: %s", s.Redundancy, strings.Join(s.Findings, "; "))
	}
	return err
}

// supervise keeps a process running until ctx ends; a killed one comes back
// after a while, so that there is something to watch.
func (d *demo) supervise(ctx context.Context, name string, args ...string) error {
	file := d.path(strings.ReplaceAll(name, " ", "-"))
	log, err := os.OpenFile(file+".log", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	for {
		cmd := exec.CommandContext(ctx, d.exe, args...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 15 * time.Second
		if err := cmd.Start(); err != nil {
			return err
		}
		started := time.Now()
		if err := os.WriteFile(file+".pid", fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o600); err != nil {
			return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
		err := cmd.Wait()
		if ctx.Err() != nil {
			return nil
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() && time.Since(started) < startLimit {
			return fmt.Errorf("%s ended at its start (%w): %s", name, err, lastLine(log))
		}
		fmt.Fprintf(d.o.Out, "%s %s has ended (%v); it starts again in %s. Watch the console and futago status meanwhile.\n",
			time.Now().Format(time.TimeOnly), name, err, d.o.Restart)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d.o.Restart):
		}
	}
}

// lastLine returns the last line of a log: why a process ended.
func lastLine(f *os.File) string {
	var b [4096]byte
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	n, err := f.ReadAt(b[:min(int64(len(b)), end)], max(0, end-int64(len(b))))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	text := strings.TrimSpace(string(b[:n]))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func (d *demo) explain() {
	fmt.Fprintf(d.o.Out, `
Two managers and a witness are running, and sample traps arrive at both.

  Console     https://%[1]s:7700/  or  https://%[2]s:7700/   (the demo's own CA: accept the certificate)
  User        %[3]s      Password  %[4]s

Try, in another terminal:
  %[5]s status --dir %[6]s/a
  %[5]s events -f --dir %[6]s/b
  for m in %[1]s %[2]s; do logger -n $m -P 5514 -d --rfc3164 -t demo "disk 3 failed"; done
  for m in %[1]s %[2]s; do snmptrap -v 2c -c public $m:1162 '' 1.3.6.1.6.3.1.1.5.3 1.3.6.1.2.1.2.2.1.1.7 i 7; done
  for m in %[1]s %[2]s; do curl -s http://$m:8082/ -d '{"DATA":[{"TYPE":"STRING","KEY":"door","MSG":"open"}]}'; done
  kill -9 $(cat %[6]s/manager-a.pid)     # the other one goes on; a comes back after %[7]s

Logs are in %[6]s. Ctrl-C ends everything.
`, hostA, hostB, d.user, d.pass, d.exe, d.o.Dir, d.o.Restart)
}
