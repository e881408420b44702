package demo

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/futago/futago"
	"github.com/futago/futago/manager"
)

// checkPorts finds out whether something holds the demonstration's ports:
// another demonstration, most likely.
func (d *demo) checkPorts(ctx context.Context) error {
	want := []struct{ network, host, port string }{{"tcp", d.hostW, portWitness}}
	for _, h := range []string{d.hostA, d.hostB} {
		for _, p := range []string{portAPI, portCluster, portSyslog, portSyslogTLS, portCustom, portCustomTLS} {
			want = append(want, struct{ network, host, port string }{"tcp", h, p})
		}
		for _, p := range []string{portSyslog, portSNMP} {
			want = append(want, struct{ network, host, port string }{"udp", h, p})
		}
	}
	for _, w := range want {
		if err := tryPort(ctx, w.network, net.JoinHostPort(w.host, w.port)); err != nil {
			e := futago.Errorf(futago.CodeConflict, "the demonstration cannot have %s port %s of %s", strings.ToUpper(w.network), w.port, w.host).Wrap(err)
			if errors.Is(err, syscall.EADDRINUSE) {
				return e.WithAction("if another demonstration runs, end it first, or take other addresses (--net 127.1.2); else see who holds the port: ss -lntup | grep %s", w.port)
			}
			return e.WithAction("it needs the addresses %s, %s and %s, which Linux has by itself", d.hostA, d.hostB, d.hostW)
		}
	}
	return nil
}

func tryPort(ctx context.Context, network, addr string) error {
	var lc net.ListenConfig
	if network == "udp" {
		c, err := lc.ListenPacket(ctx, network, addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := lc.Listen(ctx, network, addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// writeConfig makes one manager's configuration, with ports that need no root,
// unless there is one.
func writeConfig(path, dir, host string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at := func(port string) string { return net.JoinHostPort(host, port) }
	c := manager.DefaultConfig()
	c.DataDir = dir
	c.APIListen, c.ClusterListen = at(portAPI), at(portCluster)
	c.Heartbeat = futago.Duration(200 * time.Millisecond)
	c.MinFree = 64 << 20
	c.Syslog.UDP, c.Syslog.TCP, c.Syslog.TLS = at(portSyslog), at(portSyslog), at(portSyslogTLS)
	c.SNMPTrap.UDP = at(portSNMP)
	c.CustomTrap.HTTP, c.CustomTrap.HTTPS = at(portCustom), ""
	b, err := toml.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}
