package syslog

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/futago/futago"
)

// program returns the path of a real sender, or skips.
func program(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (package %s)", name, pkg)
	}
	return path
}

func command(t *testing.T, path string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", path, args, err, out)
	}
}

func startUDP(t *testing.T, m *memory) *UDP {
	t.Helper()
	u, err := ListenUDP(t.Context(), UDPConfig{Address: "127.0.0.1:0", Producer: m})
	if err != nil {
		t.Fatal(err)
	}
	run(t, u.Run)
	t.Cleanup(func() { _ = u.Close() })
	return u
}

func TestPeer_Logger(t *testing.T) {
	logger := program(t, "logger", "bsdutils")
	m := &memory{}
	u := startUDP(t, m)
	s, _ := startStream(t, StreamConfig{Appender: m})
	for i, c := range []struct {
		args   []string
		format string
		to     netip.AddrPort
		sd     int
	}{
		{args: []string{"--udp", "--rfc3164"}, format: "rfc3164", to: u.Addr()},
		{args: []string{"--udp", "--rfc5424"}, format: "rfc5424", to: u.Addr(), sd: 1},
		{args: []string{"--udp", "--rfc5424=notime,notq"}, format: "rfc5424", to: u.Addr()},
		{args: []string{"--tcp", "--rfc3164"}, format: "rfc3164", to: s.Addr()},
		{args: []string{"--tcp", "--rfc5424"}, format: "rfc5424", to: s.Addr(), sd: 1},
		{args: []string{"--tcp", "--octet-count", "--rfc3164"}, format: "rfc3164", to: s.Addr()},
		{
			args:   []string{"--tcp", "--octet-count", "--rfc5424", "--msgid", "ID47", "--sd-id", "x@1", "--sd-param", `a="1"`},
			format: "rfc5424", to: s.Addr(), sd: 2,
		},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			text := fmt.Sprintf("ディスク障害 %d", i)
			command(t, logger, append(c.args, "--server", c.to.Addr().String(), "--port", fmt.Sprint(c.to.Port()),
				"--priority", "local3.err", "--tag", "backup", "--id=4711", text)...)
			poll(t, "message", func() bool { return len(m.messages()) == i+1 })
			r := m.records()[i]
			trap, _ := Decode(&r, nil)
			if !trap.Parsed || trap.Problem != "" || trap.Syslog.Format != c.format || trap.Message != text || trap.Severity != futago.SeverityError {
				t.Fatalf("%q: parsed %v, problem %q, message %q, %+v", r.Raw, trap.Parsed, trap.Problem, trap.Message, trap.Syslog)
			}
			f := trap.Syslog
			if f.Facility != 19 || f.App != "backup" || f.ProcID != "4711" || len(f.StructuredData) != c.sd {
				t.Errorf("%q: %+v", r.Raw, f)
			}
			host, err := os.Hostname()
			if err != nil {
				t.Fatal(err)
			}
			if trap.Host != host && trap.Host != strings.Split(host, ".")[0] {
				t.Errorf("host %q, want %q", trap.Host, host)
			}
			if off := f.Timestamp.Sub(time.Unix(0, r.At)).Abs(); !f.Timestamp.IsZero() && off > time.Minute && os.Getenv("TZ") == "" {
				t.Errorf("time %s is %s away from the arrival", f.Timestamp, off)
			}
		})
	}
}

func TestPeer_LoggerReadsFile(t *testing.T) {
	logger := program(t, "logger", "bsdutils")
	m := &memory{}
	s, _ := startStream(t, StreamConfig{Appender: m})
	var sb strings.Builder
	const lines = 500
	for i := range lines {
		fmt.Fprintf(&sb, "line %d\n", i)
	}
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(sb.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, framing := range [][]string{nil, {"--octet-count"}} {
		command(t, logger, append(framing, "--tcp", "--server", "127.0.0.1", "--port", fmt.Sprint(s.Addr().Port()), "--file", file)...)
		poll(t, "lines", func() bool { return len(m.messages()) == (k+1)*lines })
		for i, r := range m.records()[k*lines:] {
			if trap, _ := Decode(&r, nil); trap.Message != fmt.Sprintf("line %d", i) {
				t.Fatalf("message %d is %q", i, trap.Message)
			}
		}
	}
}

// TestPeer_Rsyslog has rsyslog forward the same messages in four ways.
func TestPeer_Rsyslog(t *testing.T) {
	rsyslogd, logger := program(t, "rsyslogd", "rsyslog"), program(t, "logger", "bsdutils")
	server, _ := serverTLS(t)
	plain, udp, counted, secure := &memory{}, &memory{}, &memory{}, &memory{}
	u := startUDP(t, udp)
	a, _ := startStream(t, StreamConfig{Appender: plain})
	b, _ := startStream(t, StreamConfig{Appender: counted})
	c, _ := startStream(t, StreamConfig{Appender: secure, TLS: server})

	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificates[0].Certificate[0]})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	withTLS := ""
	if found, err := filepath.Glob("/usr/lib*/*/rsyslog/lmnsd_gtls.so"); err == nil && len(found) > 0 {
		withTLS = fmt.Sprintf(`action(type="omfwd" target="127.0.0.1" port="%d" protocol="tcp" TCP_Framing="octet-counted"
  StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/name" StreamDriverPermittedPeers="localhost" template="RSYSLOG_SyslogProtocol23Format")`, c.Addr().Port())
	}
	socket := filepath.Join(dir, "log")
	conf := fmt.Sprintf(`global(workDirectory="%s" maxMessageSize="64k" DefaultNetstreamDriverCAFile="%s")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="%s" RateLimit.Interval="0" UseSysTimeStamp="off")
action(type="omfwd" target="127.0.0.1" port="%d" protocol="udp")
action(type="omfwd" target="127.0.0.1" port="%d" protocol="tcp")
action(type="omfwd" target="127.0.0.1" port="%d" protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format")
%s
`, dir, ca, socket, u.Addr().Port(), a.Addr().Port(), b.Addr().Port(), withTLS)
	file := filepath.Join(dir, "rsyslog.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	d := exec.CommandContext(t.Context(), rsyslogd, "-n", "-f", file, "-i", filepath.Join(dir, "pid"))
	d.Stdout, d.Stderr = &out, &out
	d.Cancel = func() error { return d.Process.Signal(syscall.SIGTERM) }
	d.WaitDelay = 10 * time.Second
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.Process.Signal(syscall.SIGTERM)
		_ = d.Wait() // its exit status tells nothing
		if t.Failed() {
			t.Log(out.String())
		}
	})
	poll(t, "socket of rsyslog", func() bool { _, err := os.Stat(socket); return err == nil })

	const messages = 40
	for i := range messages {
		text := fmt.Sprintf("message %d 障害 %s", i, strings.Repeat("x", i*100))
		command(t, logger, "--socket", socket, "--priority", "daemon.warning", "--tag", "app", "--id=77", "--size", "32k", text)
	}
	sinks := map[string]*memory{"udp": udp, "tcp": plain, "tcp counted": counted}
	if withTLS != "" {
		sinks["tls"] = secure
	}
	for name, m := range sinks {
		poll(t, name+" messages", func() bool { return len(m.messages()) >= messages })
		for i, r := range m.records() {
			trap, _ := Decode(&r, nil)
			want := fmt.Sprintf("message %d 障害 %s", i, strings.Repeat("x", i*100))
			if strings.TrimPrefix(trap.Message, " ") != want || trap.Problem != "" || trap.Syslog.App != "app" || trap.Syslog.ProcID != "77" ||
				trap.Severity != futago.SeverityWarning || trap.Syslog.Facility != 3 || trap.Syslog.Timestamp.IsZero() {
				t.Errorf("%s message %d: %q\n%+v", name, i, r.Raw, trap.Syslog)
			}
		}
	}
}
