// Package demo runs a whole cluster on loopback: a witness, two managers and a
// trickle of sample traps, each of the three a process of its own, so that one
// can be killed and watched.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

// Options of a demonstration.
type Options struct {
	// Dir takes everything and is kept for the next time; when empty, a
	// temporary one that is removed at the end.
	Dir string
	// Out takes what people read.
	Out io.Writer
	// Rate is sample traps a second.
	Rate float64
	// Restart is how long a killed process stays away.
	Restart time.Duration
	// Net is the first three bytes of the addresses: all of 127.0.0.0/8 is this
	// host. "127.0.0" when empty.
	Net string
}

// Ports, none of which needs root.
const (
	portAPI, portCluster, portWitness = "7700", "7701", "7702"

	portSyslog, portSyslogTLS = "5514", "6514"
	portCustom, portCustomTLS = "8082", "8083"
	portSNMP                  = "1162"
)

// demo is one demonstration.
type demo struct {
	o   Options
	exe string
	// The hosts: one for each of the three parts.
	hostA, hostB, hostW string

	parts  *errgroup.Group
	user   string
	secret string
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	net := cmp.Or(o.Net, "127.0.0")
	d := &demo{exe: exe, user: "demo", hostA: net + ".11", hostB: net + ".12", hostW: net + ".13"}
	if err := d.checkPorts(ctx); err != nil {
		return err
	}
	end := "Stopped. Everything is kept in " + o.Dir + "; the same command goes on with it."
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "futago-demo-"); err != nil {
			return err
		}
		end = "Stopped, and " + o.Dir + " removed."
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	} else if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return futago.Errorf(futago.CodeInvalid, "the directory cannot be made").WithAction("choose another one with --data").Wrap(err)
	}
	stopping := context.AfterFunc(ctx, func() { fmt.Fprintln(o.Out, "\nStopping …") })
	defer stopping()
	d.o = o
	var running context.Context
	d.parts, running = errgroup.WithContext(ctx)
	d.parts.Go(func() error { return d.start(running) })
	err = d.parts.Wait()
	if ctx.Err() != nil {
		// Whatever was under way broke off because of the signal.
		fmt.Fprintln(o.Out, end)
		return nil
	}
	return err
}

// start brings the parts up in the order in which an operator would.
func (d *demo) start(ctx context.Context) error {
	fmt.Fprintf(d.o.Out, "Starting a witness and two managers in %s …\n", d.o.Dir)
	wdir := d.path("witness")
	invitation := ""
	if !cluster.Exists(d.path("a")) {
		var err error
		invitation, err = d.futago(ctx, "witness", "invite", "--data", wdir, "--cluster", "demo", "--replace", "--url", "https://"+d.hostW+":"+portWitness)
		if err != nil {
			return err
		}
	}
	d.supervise(ctx, "witness", "witness", "run", "--data", wdir, "--listen", d.hostW+":"+portWitness)
	for _, m := range []struct{ name, host string }{{"a", d.hostA}, {"b", d.hostB}} {
		config := d.path(m.name + ".toml")
		if err := writeConfig(config, d.path(m.name), m.host); err != nil {
			return err
		}
		if !cluster.Exists(d.path(m.name)) || invitation != "" {
			if err := d.make(ctx, m.name, invitation, "--config", config, "--cluster", m.host+":"+portCluster); err != nil {
				return err
			}
		}
		d.supervise(ctx, "manager "+m.name, "manager", "--config", config)
	}
	if err := d.addUser(ctx); err != nil {
		return err
	}
	if err := retry(ctx, func() error { return d.full(ctx) }); err != nil {
		return err
	}
	d.explain()
	return d.trickle(ctx)
}

// make initialises manager a, or joins b to it.
func (d *demo) make(ctx context.Context, name, invitation string, where ...string) error {
	if name == "a" {
		return retry(ctx, func() error {
			_, err := d.futago(ctx, append([]string{"init", "--name", "demo", "--witness", strings.TrimSpace(invitation)}, where...)...)
			return err
		})
	}
	var token string
	err := retry(ctx, func() (err error) {
		token, err = d.futago(ctx, "token", "join", "--dir", d.path("a"), "--member", name)
		return err
	})
	if err != nil {
		return err
	}
	_, err = d.futago(ctx, append(append([]string{"join"}, where...), strings.TrimSpace(token))...)
	return err
}

func (d *demo) path(name string) string { return filepath.Join(d.o.Dir, name) }

// startLimit bounds how long a part may take to come up.
const startLimit = 60 * time.Second

// retry repeats f while what it needs is not up yet.
func retry(ctx context.Context, f func() error) error {
	deadline := time.After(startLimit)
	for {
		err := f()
		switch futago.CodeOf(err) {
		case futago.CodeUnavailable, futago.CodeUnknown, futago.CodeNotLeader:
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("the demonstration did not come up: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *demo) explain() {
	fmt.Fprintf(d.o.Out, `
Two managers and a witness are running, and sample traps arrive at both.

  Console     https://%[1]s:7700/  or  https://%[2]s:7700/   (the demo's own CA: accept the certificate)
  User        %[3]s      Password  %[4]s

Try, in another terminal:
  %[5]s status --dir %[6]s/a
  %[5]s events -f --dir %[6]s/b
  for m in %[1]s %[2]s; do logger -n $m -P %[8]s -d --rfc3164 -t demo "disk 3 failed"; done
  for m in %[1]s %[2]s; do snmptrap -v 2c -c public $m:%[9]s '' 1.3.6.1.6.3.1.1.5.3 1.3.6.1.2.1.2.2.1.1.7 i 7; done
  for m in %[1]s %[2]s; do curl -s http://$m:%[10]s/ -d '{"DATA":[{"TYPE":"STRING","KEY":"door","MSG":"open"}]}'; done
  curl -s --cacert %[6]s/a/pki/ca.crt -u %[3]s:%[4]s 'https://%[2]s:7700/api/v1/events?limit=3'
  kill -9 $(cat %[6]s/manager-a.pid)     # the other one goes on; a comes back after %[7]s

Logs are in %[6]s. Ctrl-C ends everything.
`, d.hostA, d.hostB, d.user, d.secret, d.exe, d.o.Dir, d.o.Restart, portSyslog, portSNMP, portCustom)
}
