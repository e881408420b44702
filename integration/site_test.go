package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/integration/rig"
)

// site is a cluster with an operator and a device: what the tests of single
// faults need. Everything runs over the network from d1; only the tests' own
// looks at status and history use the local sockets.
type site struct {
	*rig.Rig
	t     *testing.T
	token string
	api   map[string]*client.Client // of the operator, who is not sent on to the leader
	sent  int
	value atomic.Uint32 // the last one written
}

func newSite(t *testing.T, o rig.Options) *site {
	t.Helper()
	if o.Binary == "" {
		o.Binary = rig.Binary(t)
	}
	if o.Settings.Dedup == nil {
		o.Settings = rig.Settings(nil)
	}
	s := &site{Rig: rig.New(t, o), t: t, api: map[string]*client.Client{}}
	local := s.Client("a")
	defer local.Close()
	var tok struct{ Token string }
	s.Await(10*time.Second, "token", func() error {
		return local.Do(t.Context(), http.MethodPost, "/api/v1/tokens", "", map[string]string{"name": "operator", "role": "operator"}, &tok)
	})
	s.token = tok.Token
	for _, host := range []string{"a", "b"} {
		c, err := client.New(client.Config{
			Addresses: []string{s.Lab.Host(host).AddrPort(7700).String()}, CA: s.CA(), Token: tok.Token,
			Timeout: time.Second, Dial: s.Lab.Host("d1").DialContext, StayPut: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		s.api[host] = c
	}
	return s
}

// leads waits until the managers asked agree on a leader and names it.
func (s *site) leads(ask ...string) (leader string) {
	s.t.Helper()
	if len(ask) == 0 {
		ask = []string{"a", "b"}
	}
	s.Await(20*time.Second, "leader", func() error {
		leader = ""
		for _, h := range ask {
			st, err := s.Status(h)
			if err != nil {
				return err
			}
			if st.Leader == "" || leader != "" && string(st.Leader) != leader {
				return fmt.Errorf("%s names leader %q: %s", h, st.Leader, strings.Join(st.Findings, "; "))
			}
			leader = string(st.Leader)
		}
		return nil
	})
	return leader
}

// lead makes a host the leader by planned switches.
func (s *site) lead(host string) {
	s.t.Helper()
	s.Await(30*time.Second, host+" leads", func() error {
		l := s.leads()
		if l == host {
			return nil
		}
		c := s.Client(l)
		defer c.Close()
		if err := c.Do(s.t.Context(), http.MethodPost, "/api/v1/switch", "", nil, nil); err != nil {
			return err
		}
		return errors.New("switched, look again")
	})
	s.AwaitFull(10 * time.Second)
}

// terms reads the term that a manager is in.
func (s *site) term(host string) uint64 {
	s.t.Helper()
	st, err := s.Status(host)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range st.Members {
		if string(m.Member) == host {
			return m.Term
		}
	}
	s.t.Fatalf("%s does not show itself", host)
	return 0
}

// word waits for a redundancy word, and for a finding with each of the texts.
func (s *site) word(host string, want futago.Redundancy, findings ...string) {
	s.t.Helper()
	s.Await(15*time.Second, fmt.Sprintf("%s says %s and why", host, want), func() error {
		st, err := s.Status(host)
		if err != nil {
			return err
		}
		all := strings.Join(st.Findings, "; ")
		if st.Redundancy != want {
			return fmt.Errorf("it says %s: %s", st.Redundancy, all)
		}
		for _, f := range findings {
			if !strings.Contains(all, f) {
				return fmt.Errorf("no finding has %q: %s", f, all)
			}
		}
		return nil
	})
}

// send sends one syslog message, different from all others, over UDP to the
// hosts named, or to both managers, and returns its text.
func (s *site) send(hosts ...string) string {
	s.t.Helper()
	s.sent++
	text := fmt.Sprintf("probe %d of the test", s.sent)
	if len(hosts) == 0 {
		hosts = []string{"a", "b"}
	}
	for _, h := range hosts {
		s.datagram(h, 514, []byte("<29>Nov 22 04:05:06 device app[7]: "+text))
	}
	return text
}

func (s *site) datagram(host string, port uint16, b []byte) {
	s.t.Helper()
	c, err := s.Lab.Host("d1").DialContext(context.WithoutCancel(s.t.Context()), "udp4", s.Lab.Host(host).AddrPort(port).String())
	if err == nil {
		_, err = c.Write(b)
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// with returns the events of a manager's history whose line holds the text.
func (s *site) with(host, text string) (found []futago.Event, err error) {
	for e, err := range s.Events(host) {
		if err != nil {
			return nil, err
		}
		if strings.Contains(e.Trap.Message, text) {
			found = append(found, e)
		}
	}
	return found, nil
}

// only waits until a manager's history holds the text once, received once by
// each of the managers named and by no other, and returns the event.
func (s *site) only(host, text string, receivers ...string) (e futago.Event) {
	s.t.Helper()
	s.Await(20*time.Second, fmt.Sprintf("%q once on %s, received by %v", text, host, receivers), func() error {
		found, err := s.with(host, text)
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("%d events: %+v", len(found), found)
		}
		e = found[0]
		if e.Count != 1 || e.Copies != uint64(len(receivers)) || len(e.Receipts) != len(receivers) {
			return fmt.Errorf("count %d, copies %d, receipts %+v", e.Count, e.Copies, e.Receipts)
		}
		for _, r := range e.Receipts {
			if r.Count != 1 || !slices.Contains(receivers, string(r.Member)) {
				return fmt.Errorf("receipts %+v", e.Receipts)
			}
		}
		return nil
	})
	return e
}

// spooled waits until a manager keeps so many traps that are not recorded.
func (s *site) spooled(host string, want uint64) {
	s.t.Helper()
	s.Await(10*time.Second, fmt.Sprintf("%d traps in the spool of %s", want, host), func() error {
		st, err := s.Status(host)
		if err != nil {
			return err
		}
		for _, m := range st.Members {
			if string(m.Member) == host && m.Local.Spool.Depth == want {
				return nil
			}
		}
		return fmt.Errorf("%+v", st.Members)
	})
}

// write changes the settings at one manager: a rule for a sender that does not
// exist, with a new address each time, which is the value. Other rules stay.
func (s *site) write(host string) (value string, err error) {
	var set futago.IntakeSettings
	if err := s.api[host].Get(s.t.Context(), settingsPath, nil, &set); err != nil {
		return "", err
	}
	n := s.value.Add(1)
	v := netip.PrefixFrom(netip.AddrFrom4([4]byte{nobody, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
	set.Sources = append(slices.DeleteFunc(set.Sources, ofNobody), futago.SourceRule{Source: v, Charset: "euc-jp"})
	return v.String(), s.api[host].Do(s.t.Context(), http.MethodPut, settingsPath, "", set, nil)
}

// nobody is the first byte of addresses that no sender has.
const nobody = 241

func ofNobody(r futago.SourceRule) bool { return r.Source.Addr().As4()[0] == nobody }

// writes waits until a manager has acknowledged a write, and returns its value.
func (s *site) writes(host string) (value string) {
	s.t.Helper()
	s.Await(15*time.Second, host+" takes a write", func() (err error) {
		value, err = s.write(host)
		return err
	})
	return value
}

// refuses checks that a manager acknowledges no write.
func (s *site) refuses(host string) {
	s.t.Helper()
	if v, err := s.write(host); err == nil {
		s.t.Errorf("%s has acknowledged the write of %s", host, v)
	}
}

// strong reads the settings' value, up to date or not at all.
func (s *site) strong(host string) (value string, err error) {
	var set futago.IntakeSettings
	if err := s.api[host].Get(s.t.Context(), settingsPath, url.Values{"consistency": {"strong"}}, &set); err != nil {
		return "", err
	}
	if i := slices.IndexFunc(set.Sources, ofNobody); i >= 0 {
		value = set.Sources[i].Source.String()
	}
	return value, nil
}

// holds waits until a strong read at a manager gives the value.
func (s *site) holds(host, want string) {
	s.t.Helper()
	s.Await(15*time.Second, host+" reads "+want, func() error {
		got, err := s.strong(host)
		if err == nil && got != want {
			// Nothing else is written meanwhile: a strong read that is good but
			// old is the fault that this looks for.
			s.t.Fatalf("a strong read at %s gives %s, written was %s", host, got, want)
		}
		return err
	})
}

// oneGoesOn writes at both managers at once until one of them has acknowledged
// some writes. If the other one acknowledges any after that, it is a fault.
func (s *site) oneGoesOn(limit time.Duration) (on, off, value string) {
	s.t.Helper()
	const enough = 8
	type ack struct{ host, value string }
	acks, over := make(chan ack), make(chan struct{})
	stop := sync.OnceFunc(func() { close(over) })
	defer time.AfterFunc(limit, stop).Stop()
	var wg sync.WaitGroup
	for _, host := range []string{"a", "b"} {
		wg.Go(func() {
			for {
				if v, err := s.write(host); err == nil {
					acks <- ack{host, v}
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	go func() { wg.Wait(); close(acks) }()
	n := 0
	for a := range acks {
		if on != "" && on != a.host {
			s.t.Errorf("%s has acknowledged a write after %s had", a.host, on)
		}
		on, off, value = a.host, peer(a.host), a.value
		if n++; n == enough {
			stop()
		}
	}
	if n < enough {
		s.t.Fatalf("neither side goes on: %d writes in %s, the last at %q", n, limit, on)
	}
	return on, off, value
}

func (s *site) kill(hosts ...string) {
	s.t.Helper()
	for _, h := range hosts {
		s.must(s.Process(h).Kill9())
	}
}

func (s *site) start(hosts ...string) {
	s.t.Helper()
	for _, h := range hosts {
		s.Start(h)
	}
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// same checks that both databases hold the same, row by row.
func (s *site) same() {
	s.t.Helper()
	s.AwaitFull(30 * time.Second)
	if err := sameDatabases(s.Rig); err != nil {
		s.t.Error(err)
	}
}

// for each of so many tries until ctx ends, paced.
func paced(ctx context.Context, tries int, every time.Duration, f func(i int)) {
	for i := range tries {
		f(i)
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}
