// Command trapgen sends numbered traps to one or two managers and writes a
// journal of what it sent, or sends datagrams as fast as it is asked to.
//
//	trapgen --a 127.0.0.1 --b 127.0.0.2 --rate 200 --duration 30s --journal sent.jsonl
//	trapgen --a 127.0.0.1 --b 127.0.0.2 --blast syslog-bsd --rate 50000 --duration 10s
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/generate"
)

type options struct {
	A string `help:"Address of manager a." required:"" placeholder:"IP"`
	B string `help:"Address of manager b; without it all traps go to a alone." placeholder:"IP"`

	SyslogPort    uint16 `help:"Port of syslog over UDP and TCP." default:"514"`
	SyslogTLSPort uint16 `help:"Port of syslog over TLS." default:"6514"`
	SNMPPort      uint16 `help:"Port of SNMP traps." default:"162"`
	CustomPort    uint16 `help:"Port of custom traps." default:"8082"`
	PlainHTTP     bool   `help:"Send custom traps over HTTP instead of HTTPS."`
	CA            string `help:"Certificate of the authority for TLS." type:"existingfile" placeholder:"FILE"`
	Token         string `help:"Bearer token of custom traps."`
	Community     string `help:"SNMP community." default:"public"`
	User          string `help:"SNMP version 3 user; authentication is SHA-256, encryption AES."`
	AuthPass      string `help:"Authentication pass phrase of the user."`
	PrivPass      string `help:"Encryption pass phrase of the user."`

	Run      uint32             `help:"Number that marks the traps of this run. Default: the seconds of now."`
	Seed     uint64             `help:"Seed of the plan." default:"1"`
	Rate     float64            `help:"Distinct traps per second; for a blast, traps per second, 0 as fast as possible." default:"100"`
	Count    int                `help:"Number of distinct traps; for a blast, of traps."`
	Duration time.Duration      `help:"How long new traps begin." default:"10s"`
	Flavours []generate.Flavour `help:"What to send, all alike often: ${flavours}. Default: what needs no user and no TLS."`
	Burst    float64            `help:"Share of traps that occur several times at once." default:"0.1"`
	Again    float64            `help:"Share of traps that occur again later." default:"0.1"`
	After    time.Duration      `help:"How much later, at least; at most twice as much." default:"3s"`

	Blast   *generate.Flavour `help:"Send datagrams of this flavour in batches, without a journal."`
	Repeats float64           `help:"Share of repeats in a blast." default:"0"`
	Senders int               `help:"Sockets that a blast sends from." default:"1"`

	Journal string `help:"File for the journal (JSON lines)." placeholder:"FILE"`
}

func main() {
	var o options
	kong.Parse(&o, kong.Name("trapgen"), kong.Description("Send numbered traps to both managers."),
		kong.Vars{"flavours": flavourNames()})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "trapgen:", err)
		os.Exit(1)
	}
}

func flavourNames() string {
	var names []string
	for _, f := range generate.Flavours() {
		names = append(names, f.String())
	}
	return strings.Join(names, ", ")
}

func run(ctx context.Context, o *options, out io.Writer) error {
	if o.Run == 0 {
		o.Run = uint32(time.Now().Unix()) //nolint:gosec // any number does
	}
	targets, err := o.targets()
	if err != nil {
		return err
	}
	user := generate.SNMPUser{Name: o.User, Auth: "SHA-256", AuthPass: o.AuthPass, PrivPass: o.PrivPass}
	if o.Blast != nil {
		b := generate.Blast{
			Flavour: *o.Blast, Targets: targets, Run: o.Run, Rate: o.Rate, Count: o.Count, Duration: o.Duration,
			Repeats: o.Repeats, Seed: o.Seed, Senders: o.Senders, Community: o.Community, SNMPUser: user,
		}
		r, err := b.Send(ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(map[string]any{
			"run": r.Run, "occurrences": r.Occurrences, "distinct": r.Distinct(), "datagrams": r.Datagrams,
			"seconds": r.Elapsed.Seconds(), "datagrams_per_second": r.Rate(),
		})
	}
	if len(o.Flavours) == 0 {
		o.Flavours = []generate.Flavour{generate.SyslogBSD, generate.SyslogIETF, generate.SNMPv2c}
	}
	cfg := generate.Config{
		Plan: generate.Plan{
			Seed: o.Seed, Rate: o.Rate, Count: o.Count, Duration: o.Duration, Mix: generate.EvenMix(o.Flavours...),
			Burst: o.Burst, Again: o.Again, AgainAfter: o.After, AgainSpread: o.After,
		},
		Targets: targets, Run: o.Run, Community: o.Community, SNMPUser: user, Token: o.Token,
	}
	if cfg.TLS, err = o.tls(); err != nil {
		return err
	}
	g, err := generate.New(cfg)
	if err != nil {
		return err
	}
	err = g.Run(ctx)
	if o.Journal != "" {
		err = errors.Join(err, writeJournal(o.Journal, g.Journal()))
	}
	for outcome, n := range g.Journal().Summary() {
		fmt.Fprintf(out, "%s %d\n", outcome, n)
	}
	return err
}

func (o *options) targets() ([]generate.Target, error) {
	var targets []generate.Target
	for m, text := range map[futago.MemberID]string{futago.MemberA: o.A, futago.MemberB: o.B} {
		if text == "" {
			continue
		}
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("address of manager %s: %w", m, err)
		}
		scheme := "https"
		if o.PlainHTTP {
			scheme = "http"
		}
		targets = append(targets, generate.Target{
			Member: m, SyslogUDP: netip.AddrPortFrom(ip, o.SyslogPort), SyslogTCP: netip.AddrPortFrom(ip, o.SyslogPort),
			SyslogTLS: netip.AddrPortFrom(ip, o.SyslogTLSPort), SNMP: netip.AddrPortFrom(ip, o.SNMPPort),
			CustomURL: scheme + "://" + net.JoinHostPort(ip.String(), strconv.Itoa(int(o.CustomPort))) + "/",
		})
	}
	return targets, nil
}

func (o *options) tls() (*tls.Config, error) {
	if o.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", o.CA)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

func writeJournal(name string, j *generate.Journal) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(j.Write(f), f.Close())
}
