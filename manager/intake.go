package manager

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/customtrap"
	"github.com/futago/futago/intake/forward"
	"github.com/futago/futago/intake/snmptrap"
	"github.com/futago/futago/intake/spool"
	"github.com/futago/futago/intake/syslog"
	"github.com/futago/futago/intake/udp"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/command"
)

// intake is this manager's way in for traps: receivers, spool, forwarder. It
// lives as long as the process, whatever becomes of Raft and the database.
type intake struct {
	m         *Manager
	spool     *spool.Spool
	forward   *forward.Forwarder
	receivers []receiver
	cleanups  []func() error
}

// receiver is one listening address.
type receiver struct {
	run    func(ctx context.Context) error
	status func() futago.ReceiverStatus
}

// openIntake opens the spool and every address of the configuration.
func (m *Manager) openIntake(ctx context.Context) (_ *intake, err error) {
	in := &intake{m: m}
	report := func(_ context.Context, topic string, s futago.Severity, message string) {
		m.reports.report(topic, s, message)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	in.spool, err = spool.Open(spool.Options{ //nolint:contextcheck // it outlives this call
		Dir: m.dir.Path("spool"), MaxBytes: int64(m.cfg.Spool.MaxBytes), Logger: m.log, Now: m.now, Report: report,
	})
	if err != nil {
		return nil, err
	}
	in.cleanups = append(in.cleanups, in.spool.Close)
	snmp := snmptrap.New(snmptrap.Options{Open: m.dir.Keys().Open})
	custom := &customtrap.Decoder{}
	in.forward = forward.New(forward.Options{
		Member: m.node.Member, Spool: in.spool, Submit: m.submit,
		Decoders: map[futago.Kind]forward.Decoder{
			futago.KindSyslog: syslog.Decode, futago.KindSNMPTrap: snmp.Decode, futago.KindCustomTrap: custom.Decode,
		},
		Settings: m.intakeSettings, Logger: m.log, Report: report, Now: m.now,
	})
	for _, open := range []func() error{
		func() error { return in.openSyslog(ctx) },
		func() error { return in.openSNMP(ctx, snmp) },
		func() error { return in.openCustom(ctx, m.cfg.CustomTrap.HTTP, nil) },
		func() error {
			return in.openCustom(ctx, m.cfg.CustomTrap.HTTPS, m.dir.Keys().ServerTLS("h2", "http/1.1"))
		},
	} {
		if err := open(); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// submit sends a batch to whoever leads.
func (m *Manager) submit(ctx context.Context, b *command.TrapBatch) forward.Pending {
	s, err := m.session()
	if err != nil {
		return raftfsm.FailedBatch(err)
	}
	return s.raft.SubmitBatch(ctx, b)
}

func cannotListen(key, addr string, err error) error {
	return futago.Errorf(futago.CodeUnavailable, "cannot listen on %s = %s", key, addr).
		WithAction("ports below 1024 need root or CAP_NET_BIND_SERVICE; see what else holds the port with ss -lunptp").Wrap(err)
}

func (in *intake) openSyslog(ctx context.Context) error {
	c := in.m.cfg.Syslog
	if err := in.openSyslogUDP(ctx, c.UDP, int(c.MaxMessage)); err != nil {
		return err
	}
	if err := in.openSyslogStream(ctx, "tcp", c.TCP, int(c.MaxMessage), nil); err != nil {
		return err
	}
	return in.openSyslogStream(ctx, "tls", c.TLS, int(c.MaxMessage), in.m.dir.Keys().ServerTLS())
}

func (in *intake) openSyslogUDP(ctx context.Context, addr string, limit int) error {
	if addr == "" {
		return nil
	}
	// Registered before the socket is open, so that the watermark waits for it.
	p := in.spool.Producer("syslog/udp", true)
	u, err := syslog.ListenUDP(ctx, syslog.UDPConfig{Address: addr, MaxMessage: limit, Producer: p, Logger: in.m.log})
	if err != nil {
		p.Close()
		return cannotListen("syslog.udp", addr, err)
	}
	in.cleanups = append(in.cleanups, u.Close)
	in.receivers = append(in.receivers, receiver{
		run: func(ctx context.Context) error { defer p.Close(); return u.Run(ctx) },
		status: func() futago.ReceiverStatus {
			s := u.Status()
			return futago.ReceiverStatus{
				Name: "syslog/udp", Address: s.Address, Received: s.Received, Bytes: s.Bytes,
				Dropped: s.KernelDrops + s.Refused, Truncated: s.Truncated,
			}
		},
	})
	return nil
}

func (in *intake) openSyslogStream(ctx context.Context, proto, addr string, limit int, t *tls.Config) error {
	if addr == "" {
		return nil
	}
	name := "syslog/" + proto
	p := in.spool.Producer(name, false)
	st, err := syslog.ListenStream(ctx, syslog.StreamConfig{Address: addr, TLS: t, MaxMessage: limit, Appender: p, Logger: in.m.log})
	if err != nil {
		p.Close()
		return cannotListen("syslog."+proto, addr, err)
	}
	in.cleanups = append(in.cleanups, st.Close)
	in.receivers = append(in.receivers, receiver{
		run: func(ctx context.Context) error { defer p.Close(); return st.Run(ctx) },
		status: func() futago.ReceiverStatus {
			s := st.Status()
			return futago.ReceiverStatus{
				Name: name, Address: s.Address, Received: s.Received, Bytes: s.Bytes,
				Dropped: s.Lost, Truncated: s.Truncated, Refused: s.Refused + s.Handshakes, Open: s.Open,
			}
		},
	})
	return nil
}

func (in *intake) openSNMP(ctx context.Context, dec *snmptrap.Decoder) error {
	m := in.m
	addr := m.cfg.SNMPTrap.UDP
	if addr == "" {
		return nil
	}
	engine, err := snmptrap.OpenEngine(m.dir.Path("snmp-engine.json"),
		snmptrap.EngineID(snmptrap.DefaultEnterprise, []byte(m.node.ClusterID), m.node.Member), m.log)
	if err != nil {
		return err
	}
	// Registered before the socket is open, so that the watermark waits for it.
	p := in.spool.Producer("snmptrap/udp", true)
	conn, err := udp.Listen(ctx, udp.Config{Address: addr, Local: true, Logger: m.log})
	if err != nil {
		p.Close()
		return cannotListen("snmptrap.udp", addr, err)
	}
	in.cleanups = append(in.cleanups, conn.Close)
	r := snmptrap.NewReceiver(snmptrap.Config{
		Socket: conn, Producer: p, Commits: in.spool, Decoder: dec, Engine: engine, Settings: m.intakeSettings, Logger: m.log,
	})
	in.receivers = append(in.receivers, receiver{
		run: func(ctx context.Context) error { defer p.Close(); return r.Run(ctx) },
		status: func() futago.ReceiverStatus {
			u, s := conn.Status(), r.Status()
			return futago.ReceiverStatus{
				Name: "snmptrap/udp", Address: u.Address, Received: u.Received, Bytes: u.Bytes,
				Dropped: u.KernelDrops + s.Refused, Truncated: u.Truncated, Unparsed: s.Unparsed + s.Unauthenticated,
			}
		},
	})
	return nil
}

func (in *intake) openCustom(ctx context.Context, addr string, t *tls.Config) error {
	if addr == "" {
		return nil
	}
	name, key := "customtrap/http", "customtrap.http"
	if t != nil {
		name, key = "customtrap/https", "customtrap.https"
	}
	p := in.spool.Producer(name, false)
	s, err := customtrap.Listen(ctx, customtrap.Config{
		Address: addr, TLS: t, Producer: p, Commits: in.spool, Settings: in.m.intakeSettings, Logger: in.m.log,
	})
	if err != nil {
		p.Close()
		return cannotListen(key, addr, err)
	}
	in.cleanups = append(in.cleanups, s.Close)
	in.receivers = append(in.receivers, receiver{
		run: func(ctx context.Context) error { defer p.Close(); return s.Run(ctx) },
		status: func() futago.ReceiverStatus {
			st := s.Status()
			return futago.ReceiverStatus{
				Name: name, Address: st.Address, Received: st.Elements, Dropped: 0,
				Refused: st.Rejected + st.Overloaded + st.Refused, Open: st.InWork,
			}
		},
	})
	return nil
}

// run serves every receiver and forwards. Receivers end first; the forwarder
// goes on until they have, so that what waits for a commitment may get it.
func (in *intake) run(ctx context.Context) error {
	forwarding, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return in.forward.Run(forwarding) })
	g.Go(func() error {
		defer stop()
		r, ctx := errgroup.WithContext(ctx)
		for _, rc := range in.receivers {
			r.Go(func() error { return rc.run(ctx) })
		}
		r.Go(func() error { <-ctx.Done(); return nil })
		return r.Wait()
	})
	return g.Wait()
}

func (in *intake) close() error {
	var errs []error
	for _, undo := range slices.Backward(in.cleanups) {
		// A receiver that has run has closed its socket by itself.
		if err := undo(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// fill adds the intake's part to a status.
func (in *intake) fill(l *futago.LocalStatus) {
	s, f := in.spool.Status(), in.forward.Status()
	l.Spool = futago.SpoolStatus{
		Depth: s.Depth, Bytes: s.Bytes, LimitBytes: s.LimitBytes, OldestAt: s.OldestAt, Appended: s.Appended, Overflowed: s.Overflowed,
	}
	switch {
	case s.LastError != nil:
		l.Spool.LastError = s.LastError.Error()
	case f.LastError != nil:
		l.Spool.LastError = fmt.Sprintf("forwarding: %v", f.LastError)
	}
	for _, r := range in.receivers {
		l.Receivers = append(l.Receivers, r.status())
	}
	l.Queues = append(l.Queues, futago.QueueStatus{Name: "batches in flight", Depth: uint64(f.InFlight), Limit: forward.DefaultInFlight})
}
