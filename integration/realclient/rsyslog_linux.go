package realclient

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/futago/futago/integration/lab"
)

// RsyslogTransport is how rsyslog forwards.
type RsyslogTransport int

// The transports.
const (
	RsyslogUDP RsyslogTransport = iota
	RsyslogTCP
	RsyslogTLS
)

// Rsyslog is a running rsyslogd that forwards all it gets to some receivers,
// as a machine does that is configured for both managers. It keeps what it cannot
// deliver over TCP and TLS in memory, and tries again each second.
type Rsyslog struct {
	host   *lab.Host
	socket string
	taken  string // file with all that it has read
	proc   *lab.Process
}

// StartRsyslog starts a forwarder on a host. It ends with the lab, or by Stop.
func StartRsyslog(ctx context.Context, h *lab.Host, via RsyslogTransport, to ...Receiver) (*Rsyslog, error) {
	dir, err := os.MkdirTemp(h.Scratch(), "rsyslog-")
	if err != nil {
		return nil, err
	}
	r := &Rsyslog{host: h, socket: filepath.Join(dir, "log"), taken: filepath.Join(dir, "taken")}
	var conf strings.Builder
	fmt.Fprintf(&conf, "global(workDirectory=%q)\n", dir)
	if via == RsyslogTLS && len(to) > 0 {
		fmt.Fprintf(&conf, "global(defaultNetstreamDriverCAFile=%q)\n", to[0].CAFile)
	}
	fmt.Fprintf(&conf, "module(load=\"imuxsock\" sysSock.use=\"off\")\ninput(type=\"imuxsock\" socket=%q)\n", r.socket)
	fmt.Fprintf(&conf, "action(type=\"omfile\" file=%q)\n", r.taken)
	for _, x := range to {
		var addr netip.AddrPort
		var extra string
		switch via {
		case RsyslogUDP:
			addr, extra = x.SyslogUDP, `protocol="udp"`
		case RsyslogTCP:
			addr, extra = x.SyslogTCP, `protocol="tcp"`
		case RsyslogTLS:
			addr = x.SyslogTLS
			extra = `protocol="tcp" streamDriver="gtls" streamDriverMode="1" streamDriverAuthMode="x509/certvalid" TCP_Framing="octet-counted"`
		}
		if !addr.IsValid() {
			return nil, errors.New("the receiver has no such address")
		}
		fmt.Fprintf(&conf, "action(type=\"omfwd\" target=%q port=\"%d\" %s template=\"RSYSLOG_SyslogProtocol23Format\" "+
			"queue.type=\"LinkedList\" queue.timeoutShutdown=\"10000\" queue.timeoutActionCompletion=\"10000\" action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")\n",
			addr.Addr(), addr.Port(), extra)
	}
	file := filepath.Join(dir, "rsyslog.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		return nil, err
	}
	r.proc, err = h.Start(ctx, lab.Proc{
		Path: "rsyslogd", Args: []string{"-n", "-f", file, "-i", filepath.Join(dir, "pid")}, Log: filepath.Join(dir, "out"),
	})
	if err != nil {
		return nil, err
	}
	for range 5000 {
		if st, err := os.Stat(r.socket); err == nil && st.Mode()&os.ModeSocket != 0 {
			return r, nil
		}
		if !r.proc.Running() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_ = r.proc.Kill9()
	return nil, fmt.Errorf("rsyslogd does not listen: %s", r.proc.Log())
}

// Log hands rsyslog one message, and returns when rsyslog has taken it: it
// would leave what it has not read when it is stopped.
func (r *Rsyslog) Log(ctx context.Context, text string) error {
	before := r.size()
	if err := run(ctx, r.host, nil, "logger", "--socket", r.socket, "--tag", Tag, "--priority", "daemon.notice", "--", text); err != nil {
		return err
	}
	for r.size() == before {
		select {
		case <-time.After(time.Millisecond):
		case <-r.proc.Done():
			return fmt.Errorf("rsyslogd ended: %s", r.proc.Log())
		case <-ctx.Done():
			return fmt.Errorf("rsyslogd does not take the message: %w", ctx.Err())
		}
	}
	return nil
}

func (r *Rsyslog) size() int64 {
	st, err := os.Stat(r.taken)
	if err != nil {
		return 0
	}
	return st.Size()
}

// Stop ends rsyslogd in good order: it delivers what it still has, if it can
// within ten seconds.
func (r *Rsyslog) Stop(ctx context.Context) error {
	if err := r.proc.Signal(unix.SIGTERM); err != nil {
		return err
	}
	return r.proc.Wait(ctx)
}

// Output is what rsyslogd complained about.
func (r *Rsyslog) Output() string { return r.proc.Log() }

// viaRsyslog starts a forwarder for one message.
func viaRsyslog(via RsyslogTransport) func(context.Context, *lab.Host, Receiver, string) error {
	return func(ctx context.Context, h *lab.Host, to Receiver, text string) error {
		r, err := StartRsyslog(ctx, h, via, to)
		if err != nil {
			return err
		}
		if err := r.Log(ctx, text); err != nil {
			return errors.Join(err, r.proc.Kill9())
		}
		if err := r.Stop(ctx); err != nil {
			return fmt.Errorf("%w: %s", err, r.Output())
		}
		return nil
	}
}
