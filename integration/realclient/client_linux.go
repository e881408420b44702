package realclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/lab"
)

// Receiver is where a manager receives, as a client sees it. Only what a
// client needs must be set.
type Receiver struct {
	SyslogUDP, SyslogTCP, SyslogTLS netip.AddrPort
	SNMP                            netip.AddrPort
	CustomURL                       string
	// CAFile is the certificate of the authority that the receiver's TLS
	// certificates are checked against.
	CAFile    string
	Token     string // bearer token of custom traps, may be empty
	Community string // default "public"
	User      User
}

func (r Receiver) community() string {
	if r.Community == "" {
		return "public"
	}
	return r.Community
}

// User is a user of SNMP version 3, in the words of both net-snmp and Futago.
type User struct{ Name, Auth, AuthPass, Priv, PrivPass string }

// Client is one program in one way of use.
type Client struct {
	Name      string
	Tool      string // the program that must be installed
	Kind      futago.Kind
	Transport futago.Transport
	// Confirmed says that a Send without an error means that the receiver has
	// confirmed the trap.
	Confirmed bool
	// Send sends one trap with the text, from the host, and returns when the
	// program has ended well.
	Send func(ctx context.Context, h *lab.Host, r Receiver, text string) error
}

// Installed returns an error that names the program when it is missing.
func (c Client) Installed() error {
	if _, err := exec.LookPath(c.Tool); err != nil {
		return fmt.Errorf("%s is not installed: %w", c.Tool, err)
	}
	return nil
}

// The trap that the SNMP clients send, and its binding with the text.
const (
	TrapOID = "1.3.6.1.4.1.8072.9999.1"
	TextOID = "1.3.6.1.4.1.8072.9999.2"
)

// Tag is the application name of syslog messages.
const Tag = "realclient"

// All lists the clients.
func All() []Client {
	return []Client{
		{Name: "logger-udp-3164", Tool: "logger", Kind: futago.KindSyslog, Transport: futago.TransportUDP, Send: loggerUDP("--rfc3164")},
		{
			Name: "logger-udp-5424", Tool: "logger", Kind: futago.KindSyslog, Transport: futago.TransportUDP,
			Send: loggerUDP("--rfc5424", "--msgid", "TEST", "--sd-id", "test@32473", "--sd-param", `key="value"`),
		},
		{Name: "logger-tcp-lines", Tool: "logger", Kind: futago.KindSyslog, Transport: futago.TransportTCP, Send: loggerTCP("--rfc3164")},
		{Name: "logger-tcp-octets", Tool: "logger", Kind: futago.KindSyslog, Transport: futago.TransportTCP, Send: loggerTCP("--rfc5424", "--octet-count")},
		{Name: "rsyslog-udp", Tool: "rsyslogd", Kind: futago.KindSyslog, Transport: futago.TransportUDP, Send: viaRsyslog(RsyslogUDP)},
		{Name: "rsyslog-tcp", Tool: "rsyslogd", Kind: futago.KindSyslog, Transport: futago.TransportTCP, Send: viaRsyslog(RsyslogTCP)},
		{Name: "rsyslog-tls", Tool: "rsyslogd", Kind: futago.KindSyslog, Transport: futago.TransportTLS, Send: viaRsyslog(RsyslogTLS)},
		{Name: "snmptrap-v1", Tool: "snmptrap", Kind: futago.KindSNMPTrap, Transport: futago.TransportUDP, Send: notify(Notification{Version: "1"})},
		{Name: "snmptrap-v2c", Tool: "snmptrap", Kind: futago.KindSNMPTrap, Transport: futago.TransportUDP, Send: notify(Notification{Version: "2c"})},
		{Name: "snmptrap-v3", Tool: "snmptrap", Kind: futago.KindSNMPTrap, Transport: futago.TransportUDP, Send: notify(Notification{Version: "3"})},
		{Name: "snmpinform-v2c", Tool: "snmpinform", Kind: futago.KindSNMPTrap, Transport: futago.TransportUDP, Confirmed: true, Send: notify(Notification{Version: "2c", Inform: true})},
		{Name: "snmpinform-v3", Tool: "snmpinform", Kind: futago.KindSNMPTrap, Transport: futago.TransportUDP, Confirmed: true, Send: notify(Notification{Version: "3", Inform: true})},
		{Name: "curl", Tool: "curl", Kind: futago.KindCustomTrap, Transport: futago.TransportHTTPS, Confirmed: true, Send: curl},
	}
}

func run(ctx context.Context, h *lab.Host, env []string, tool string, args ...string) error {
	_, err := h.Run(ctx, lab.Proc{Path: tool, Args: args, Env: env})
	return err
}

func logger(ctx context.Context, h *lab.Host, to netip.AddrPort, text string, args ...string) error {
	if !to.IsValid() {
		return errors.New("the receiver has no such address")
	}
	args = append(args, "--tag", Tag, "--priority", "daemon.notice",
		"--server", to.Addr().String(), "--port", strconv.Itoa(int(to.Port())), "--", text)
	return run(ctx, h, nil, "logger", args...)
}

func loggerUDP(args ...string) func(context.Context, *lab.Host, Receiver, string) error {
	return func(ctx context.Context, h *lab.Host, r Receiver, text string) error {
		return logger(ctx, h, r.SyslogUDP, text, append([]string{"--udp"}, args...)...)
	}
}

func loggerTCP(args ...string) func(context.Context, *lab.Host, Receiver, string) error {
	return func(ctx context.Context, h *lab.Host, r Receiver, text string) error {
		return logger(ctx, h, r.SyslogTCP, text, append([]string{"--tcp"}, args...)...)
	}
}

// Notification is how net-snmp's programs send a trap or an inform.
type Notification struct {
	Inform  bool
	Version string // "1" (traps only), "2c" or "3"
	// Level is the security level of version 3; "" is authPriv.
	Level string
	// Retries and Timeout are those of an inform; Timeout is 10 s when 0, long
	// enough for a commit. Whole seconds.
	Retries int
	Timeout time.Duration
}

// Notify sends a notification with the text from the host. An inform without an
// answer is an error.
func Notify(ctx context.Context, h *lab.Host, r Receiver, n Notification, text string) error {
	tool := "snmptrap"
	if n.Inform {
		tool = "snmpinform"
	}
	if n.Timeout == 0 {
		n.Timeout = 10 * time.Second
	}
	args := []string{"-r", strconv.Itoa(n.Retries), "-t", strconv.Itoa(int(n.Timeout / time.Second)), "-v" + n.Version}
	if n.Version == "3" {
		if n.Level == "" {
			n.Level = "authPriv"
		}
		args = append(args, "-u", r.User.Name, "-l", n.Level)
		if n.Level != "noAuthNoPriv" {
			args = append(args, "-a", r.User.Auth, "-A", r.User.AuthPass)
		}
		if n.Level == "authPriv" {
			args = append(args, "-x", r.User.Priv, "-X", r.User.PrivPass)
		}
		if !n.Inform { // the sender's own engine is the authority of a trap
			args = append(args, "-e", fmt.Sprintf("0x80001f8804%x", h.Name()))
		}
	} else {
		args = append(args, "-c", r.community())
	}
	args = append(args, r.SNMP.String())
	if n.Version == "1" {
		args = append(args, TrapOID, h.Addr().String(), "6", "17", "4711")
	} else {
		args = append(args, "4711", TrapOID)
	}
	// Without MIBs, and with the program's state in the lab.
	env := []string{"MIBS=", "SNMP_PERSISTENT_DIR=" + h.Scratch(), "SNMPCONFPATH=" + h.Scratch()}
	return run(ctx, h, env, tool, append(args, TextOID, "s", text)...)
}

func notify(n Notification) func(context.Context, *lab.Host, Receiver, string) error {
	return func(ctx context.Context, h *lab.Host, r Receiver, text string) error {
		return Notify(ctx, h, r, n, text)
	}
}

func curl(ctx context.Context, h *lab.Host, r Receiver, text string) error {
	type element struct{ TYPE, KEY, MSG string }
	body, err := json.Marshal(struct {
		FacilityID string
		DATA       []element
	}{h.Name(), []element{{"STRING", Tag, text}}})
	if err != nil {
		return err
	}
	args := []string{"--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--data-binary", string(body)}
	if r.CAFile != "" {
		args = append(args, "--cacert", r.CAFile)
	}
	if r.Token != "" {
		args = append(args, "--header", "Authorization: Bearer "+r.Token)
	}
	return run(ctx, h, nil, "curl", append(args, r.CustomURL)...)
}
