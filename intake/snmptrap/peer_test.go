package snmptrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/spool"
	"github.com/futago/futago/intake/udp"
)

var (
	_ Producer = (*spool.Producer)(nil)
	_ Commits  = (*spool.Spool)(nil)
	_ Socket   = (*udp.Conn)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memSpool is a spool whose commitments the test controls.
type memSpool struct {
	mu     sync.Mutex
	recs   []futago.Received
	acked  uint64
	change chan struct{}
	auto   bool // commit at once
	room   int  // how many records fit; 0: any number
	lost   bool // records turn out to be damaged
}

func newMemSpool(auto bool) *memSpool { return &memSpool{change: make(chan struct{}), auto: auto} }

func (s *memSpool) Append(recs []futago.Received) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range recs {
		recs[i].Seq = 0
		if s.room > 0 && len(s.recs) >= s.room {
			s.signal()
			return uint64(len(s.recs)), errors.New("full")
		}
		recs[i].Seq = uint64(len(s.recs) + 1)
		r := recs[i]
		r.Raw = bytes.Clone(r.Raw)
		s.recs = append(s.recs, r)
	}
	if s.auto {
		s.acked = uint64(len(s.recs))
	}
	s.signal()
	return uint64(len(s.recs)), nil
}

func (s *memSpool) signal() {
	close(s.change)
	s.change = make(chan struct{})
}

func (s *memSpool) Idle(time.Time) {}

func (s *memSpool) ack(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked = seq
	s.signal()
}

func (s *memSpool) until(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, change := ok(), s.change
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *memSpool) WaitAcked(ctx context.Context, seq uint64) error {
	err := s.until(ctx, func() bool { return s.acked >= seq || s.lost })
	if err == nil && s.lost {
		err = futago.Errorf(futago.CodeCorrupt, "record %d is damaged", seq)
	}
	return err
}

// waitRecords returns the records once there are n, failing the test when
// there are not within ten seconds.
func (s *memSpool) waitRecords(t *testing.T, n int) []futago.Received {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.until(ctx, func() bool { return len(s.recs) >= n }); err != nil {
		t.Fatalf("%d records did not come", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.recs)
}

var testUsers = []futago.SNMPUser{
	{Name: "plain"},
	{Name: "md5", Auth: "MD5", AuthPass: "authpass-md5"},
	{Name: "sha", Auth: "SHA", AuthPass: "authpass-sha"},
	{Name: "sha224", Auth: "SHA-224", AuthPass: "authpass-224"},
	{Name: "sha256", Auth: "SHA-256", AuthPass: "authpass-256"},
	{Name: "sha384", Auth: "SHA-384", AuthPass: "authpass-384"},
	{Name: "sha512", Auth: "SHA-512", AuthPass: "authpass-512"},
	{Name: "md5des", Auth: "MD5", AuthPass: "authpass-md5", Priv: "DES", PrivPass: "privpass-des"},
	{Name: "shades", Auth: "SHA", AuthPass: "authpass-sha", Priv: "DES", PrivPass: "privpass-des"},
	{Name: "shaaes", Auth: "SHA", AuthPass: "authpass-sha", Priv: "AES", PrivPass: "privpass-aes"},
	{Name: "md5aes192", Auth: "MD5", AuthPass: "authpass-md5", Priv: "AES-192", PrivPass: "privpass-192"},
	{Name: "shaaes256", Auth: "SHA", AuthPass: "authpass-sha", Priv: "AES-256", PrivPass: "privpass-256"},
	{Name: "sha256aes256", Auth: "SHA-256", AuthPass: "authpass-256", Priv: "AES-256", PrivPass: "privpass-256"},
	{Name: "sha512aes", Auth: "SHA-512", AuthPass: "authpass-512", Priv: "AES", PrivPass: "privpass-aes"},
	{Name: "md5aes192c", Auth: "MD5", AuthPass: "authpass-md5", Priv: "AES-192-C", PrivPass: "privpass-192"},
	{Name: "shaaes256c", Auth: "SHA", AuthPass: "authpass-sha", Priv: "AES-256-C", PrivPass: "privpass-256"},
}

// rig is a receiver on a loopback port.
type rig struct {
	*Receiver
	spool    *memSpool
	dec      *Decoder
	settings *futago.IntakeSettings
	addr     string
}

func testEngine(t testing.TB) *Engine {
	t.Helper()
	e, err := OpenEngine(filepath.Join(t.TempDir(), "engine"), EngineID(DefaultEnterprise, []byte("cluster"), "a"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func startRig(t *testing.T, auto bool, settings *futago.IntakeSettings) *rig {
	t.Helper()
	conn, err := udp.Listen(t.Context(), udp.Config{Address: "127.0.0.1:0", Local: true})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{spool: newMemSpool(auto), dec: New(Options{}), settings: settings, addr: conn.Addr().String()}
	r.Receiver = NewReceiver(Config{
		Socket: conn, Producer: r.spool, Commits: r.spool, Decoder: r.dec, Engine: testEngine(t),
		Settings: func() *futago.IntakeSettings { return settings },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, conn.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// decode decodes a record as the forwarder would.
func (r *rig) decode(rec futago.Received) (futago.Trap, futago.Key) {
	return r.dec.Decode(&rec, r.settings)
}

// netsnmp runs one of net-snmp's programs and returns its output.
func netsnmp(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed (package snmp)", program)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	// Its own directory for what it stores, and no configuration of the host.
	dir := t.TempDir()
	cmd.Env = append(cmd.Environ(), "SNMPCONFPATH="+dir, "SNMP_PERSISTENT_DIR="+dir, "MIBS=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustNetSNMP(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := netsnmp(t, program, args...); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// v3Args are net-snmp's options for a user.
func v3Args(u futago.SNMPUser) []string {
	args := []string{"-v3", "-u", u.Name, "-l"}
	switch {
	case u.Priv != "":
		args = append(args, "authPriv")
	case u.Auth != "":
		args = append(args, "authNoPriv")
	default:
		args = append(args, "noAuthNoPriv")
	}
	if u.Auth != "" {
		args = append(args, "-a", u.Auth, "-A", u.AuthPass.Reveal())
	}
	if u.Priv != "" {
		args = append(args, "-x", strings.TrimSuffix(u.Priv, "-C"), "-X", u.PrivPass.Reveal())
	}
	return args
}

// The same line in net-snmp's arguments and in ours.
var (
	linkDownArgs = []string{
		"1.3.6.1.6.3.1.1.5.3", "1.3.6.1.2.1.2.2.1.1.3", "i", "3", "1.3.6.1.2.1.2.2.1.2.3", "s", "eth0 uplink",
	}
	linkDownLine = "linkDown 1.3.6.1.2.1.2.2.1.1.3=3, 1.3.6.1.2.1.2.2.1.2.3=eth0 uplink"
)

func TestReceiver_NetSNMP_Trap(t *testing.T) {
	r := startRig(t, true, &futago.IntakeSettings{SNMPUsers: testUsers})
	n := 0
	next := func(t *testing.T) futago.Trap {
		t.Helper()
		n++
		recs := r.spool.waitRecords(t, n)
		trap, _ := r.decode(recs[n-1])
		if trap.Problem != "" || !trap.Parsed {
			t.Fatalf("parsed %v, problem %q", trap.Parsed, trap.Problem)
		}
		return trap
	}
	t.Run("v1", func(t *testing.T) {
		mustNetSNMP(t, "snmptrap", "-v1", "-c", "secret", r.addr, "1.3.6.1.4.1.9.9.41", "10.1.2.3", "6", "17", "4711", "1.3.6.1.2.1.1.5.0", "s", "router")
		trap := next(t)
		f := trap.SNMP
		if f.Version != "1" || f.Community != "secret" || f.TrapOID != "1.3.6.1.4.1.9.9.41.0.17" || f.Enterprise != "1.3.6.1.4.1.9.9.41" ||
			f.AgentAddress != "10.1.2.3" || trap.Host != "10.1.2.3" || f.Generic != 6 || f.Specific != 17 || f.Uptime != 4711 {
			t.Errorf("got %+v", f)
		}
		if want := "1.3.6.1.4.1.9.9.41.0.17 1.3.6.1.2.1.1.5.0=router"; trap.Message != want {
			t.Errorf("message %q, want %q", trap.Message, want)
		}
	})
	t.Run("v1 generic", func(t *testing.T) {
		mustNetSNMP(t, "snmptrap", "-v1", "-c", "public", r.addr, "1.3.6.1.4.1.8072.3.2.10", "10.1.2.3", "4", "0", "")
		trap := next(t)
		if trap.Message != "authenticationFailure" || trap.Severity != futago.SeverityWarning {
			t.Errorf("message %q, severity %s", trap.Message, trap.Severity)
		}
	})
	t.Run("v2c", func(t *testing.T) {
		mustNetSNMP(t, "snmptrap", append([]string{"-v2c", "-c", "public", r.addr, "1234"}, linkDownArgs...)...)
		trap := next(t)
		if trap.Message != linkDownLine || trap.Severity != futago.SeverityWarning || trap.SNMP.Uptime != 1234 ||
			trap.SNMP.Community != "public" || trap.SNMP.Version != "2c" || trap.SNMP.Inform {
			t.Errorf("got %q %s %+v", trap.Message, trap.Severity, trap.SNMP)
		}
	})
	for _, u := range testUsers {
		if strings.HasSuffix(u.Priv, "-C") {
			continue // net-snmp 5.9 only extends keys by Blumenthal's draft
		}
		t.Run("v3 "+u.Name, func(t *testing.T) {
			args := append(v3Args(u), "-n", "ctx", "-e", "0x8000000001020304", r.addr, "99")
			mustNetSNMP(t, "snmptrap", append(args, linkDownArgs...)...)
			trap := next(t)
			want := args[slices.Index(args, "-l")+1]
			f := trap.SNMP
			if trap.Message != linkDownLine || f.User != u.Name || f.SecurityLevel != want ||
				f.EngineID != "8000000001020304" || f.ContextName != "ctx" || f.Uptime != 99 {
				t.Errorf("got %q %+v", trap.Message, f)
			}
		})
	}
}

func TestReceiver_NetSNMP_Inform(t *testing.T) {
	r := startRig(t, true, &futago.IntakeSettings{SNMPUsers: testUsers})
	n := 0
	check := func(t *testing.T, args []string) {
		t.Helper()
		args = append(args, r.addr, "7")
		mustNetSNMP(t, "snmpinform", append(args, linkDownArgs...)...)
		n++
		trap, _ := r.decode(r.spool.waitRecords(t, n)[n-1])
		if trap.Message != linkDownLine || trap.Problem != "" || !trap.SNMP.Inform {
			t.Errorf("got %q %q %+v", trap.Message, trap.Problem, trap.SNMP)
		}
	}
	t.Run("v2c", func(t *testing.T) { check(t, []string{"-v2c", "-c", "public"}) })
	for _, u := range testUsers {
		if !strings.HasSuffix(u.Priv, "-C") {
			t.Run("v3 "+u.Name, func(t *testing.T) { check(t, v3Args(u)) })
		}
	}
	if s := r.Status(); s.Answered != uint64(n) || s.Informs != uint64(n) || s.Recorded != uint64(n) || s.Waiting != 0 || s.Unanswered != 0 {
		t.Errorf("status %+v, want %d answered", s, n)
	}
}

// An inform is answered after its commitment, not before; what the sender sends
// again meanwhile is no second record.
func TestReceiver_NetSNMP_InformWaitsForCommit(t *testing.T) {
	for _, args := range [][]string{{"-v2c", "-c", "public"}, v3Args(testUsers[9])} {
		t.Run(args[0], func(t *testing.T) {
			r := startRig(t, false, &futago.IntakeSettings{SNMPUsers: testUsers})
			args := append(args, "-r", "20", "-t", "0.2", r.addr, "7")
			done := make(chan error, 1)
			go func() {
				out, err := netsnmp(t, "snmpinform", append(args, linkDownArgs...)...)
				if err != nil {
					err = fmt.Errorf("%w: %s", err, out)
				}
				done <- err
			}()
			r.spool.waitRecords(t, 1)
			waitFor(t, "two retransmissions", func() bool { return r.Status().Retransmissions >= 2 })
			select {
			case err := <-done:
				t.Fatalf("the sender ended before the commitment: %v", err)
			default:
			}
			r.spool.ack(1)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the answer", func() bool { return r.Status().Answered == 1 })
			if s := r.Status(); s.Recorded != 1 || s.Informs != 1 || s.Waiting != 0 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// What is not accepted is recorded with the reason, and its sender is told.
func TestReceiver_NetSNMP_NotAccepted(t *testing.T) {
	r := startRig(t, true, &futago.IntakeSettings{SNMPUsers: testUsers, Communities: []string{"right"}})
	n := 0
	next := func(t *testing.T, problem string, parsed bool) {
		t.Helper()
		n++
		trap, _ := r.decode(r.spool.waitRecords(t, n)[n-1])
		if !strings.Contains(trap.Problem, problem) || trap.Parsed != parsed {
			t.Errorf("problem %q, want %q; parsed %v", trap.Problem, problem, trap.Parsed)
		}
	}
	trap := func(t *testing.T, args ...string) {
		t.Helper()
		args = append(args, r.addr, "7")
		mustNetSNMP(t, "snmptrap", append(args, linkDownArgs...)...)
	}
	inform := func(t *testing.T, says string, args ...string) {
		t.Helper()
		args = append(args, "-r", "0", "-t", "0.5", r.addr, "7")
		out, err := netsnmp(t, "snmpinform", append(args, linkDownArgs...)...)
		if err == nil || !strings.Contains(out, says) {
			t.Errorf("snmpinform said %q (%v), want %q", out, err, says)
		}
	}
	with := func(name string, change func(*futago.SNMPUser)) []string {
		u := testUsers[slices.IndexFunc(testUsers, func(u futago.SNMPUser) bool { return u.Name == name })]
		change(&u)
		return v3Args(u)
	}
	unknown := with("sha", func(u *futago.SNMPUser) { u.Name = "nobody" })
	wrongAuth := with("sha", func(u *futago.SNMPUser) { u.AuthPass = "not-the-pass" })
	wrongPriv := with("shaaes", func(u *futago.SNMPUser) { u.PrivPass = "not-the-pass" })
	tooLow := with("sha", func(u *futago.SNMPUser) { u.Auth = "" })
	tooHigh := with("sha", func(u *futago.SNMPUser) { u.Priv, u.PrivPass = "AES", "whatever-pass" })

	t.Run("trap", func(t *testing.T) {
		trap(t, "-v2c", "-c", "wrong")
		next(t, `community "wrong" is not accepted`, true)
		trap(t, unknown...)
		next(t, `unknown user "nobody"`, false)
		trap(t, wrongAuth...)
		next(t, `wrong digest for user "sha"`, false)
		trap(t, wrongPriv...)
		next(t, `privacy passphrase or protocol differs`, false)
		trap(t, tooLow...)
		next(t, `noAuthNoPriv from user "sha", who must use authNoPriv`, false)
		trap(t, tooHigh...)
		next(t, `authPriv from user "sha", who is set up for authNoPriv`, false)
	})
	t.Run("inform", func(t *testing.T) {
		inform(t, "Timeout", "-v2c", "-c", "wrong")
		next(t, `community "wrong" is not accepted`, true)
		inform(t, "Unknown user name", unknown...)
		next(t, `unknown user "nobody"`, false)
		inform(t, "Authentication failure", wrongAuth...)
		next(t, `wrong digest for user "sha"`, false)
		inform(t, "Decryption error", wrongPriv...)
		next(t, `privacy passphrase or protocol differs`, false)
		inform(t, "Unsupported security level", tooLow...)
		next(t, `noAuthNoPriv from user "sha", who must use authNoPriv`, false)
	})
	if s := r.Status(); s.Unauthenticated != uint64(n) || s.Informs != 1 || s.Unanswered != 1 || s.Answered != 0 {
		t.Errorf("status %+v, want %d unauthenticated", s, n)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
