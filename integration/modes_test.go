package integration_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/lab"
	"github.com/futago/futago/integration/rig"
)

// The rules of docs/deduplication.md, from the sender to the receipts.

func addr(l *lab.Lab, host string) netip.Prefix { return netip.PrefixFrom(l.Addr(host), 32) }

// sum is what an event says about how often something came.
type sum struct{ Count, Copies, A, B uint64 }

// sums waits until the events of both managers with the text are the ones
// expected, in this order.
func (s *site) sums(text string, want ...sum) {
	s.t.Helper()
	s.Await(15*time.Second, fmt.Sprintf("the events of %q", text), func() error {
		for _, host := range []string{"a", "b"} {
			found, err := s.with(host, text)
			if err != nil {
				return err
			}
			var got []sum
			for _, e := range found {
				x := sum{Count: e.Count, Copies: e.Copies}
				for _, r := range e.Receipts {
					if r.Member == futago.MemberA {
						x.A += r.Count
					} else {
						x.B += r.Count
					}
				}
				got = append(got, x)
			}
			if d := cmp.Diff(want, got); d != "" {
				return fmt.Errorf("on %s (-expected +found):\n%s", host, d)
			}
		}
		return nil
	})
}

// say sends the same message from a device to managers, in this order.
func (s *site) say(device, text string, hosts ...string) {
	s.t.Helper()
	for _, h := range hosts {
		c, err := s.Lab.Host(device).DialContext(s.t.Context(), "udp4", s.Lab.Host(h).AddrPort(514).String())
		s.must(err)
		_, err = c.Write([]byte("<29>Nov 22 04:05:06 device app[7]: " + text))
		s.must(err)
		s.must(c.Close())
	}
}

const (
	shortPair   = 2 * time.Second
	shortWindow = 2 * time.Second
	fold        = 500 * time.Millisecond
)

func exactRule(fold time.Duration) futago.DedupRule {
	r := futago.DefaultDedupRule()
	r.PairWithin, r.Fold = futago.Duration(shortPair), futago.Duration(fold)
	return r
}

func windowRule() futago.DedupRule {
	r := futago.DefaultDedupRule()
	r.Mode, r.Window = futago.ModeWindow, futago.Duration(shortWindow)
	return r
}

// modeSite counts syslog exactly, but by the window for d2 and without folding
// for d3.
func modeSite(t *testing.T) *site {
	t.Helper()
	l := lab.Config{Hosts: []string{"a", "b", "w", "d1", "d2", "d3"}}
	s := newSite(t, rig.Options{Lab: l, Settings: rig.Settings(map[futago.Kind]futago.DedupRule{futago.KindSyslog: exactRule(fold)})})
	s.settings(func(set *futago.IntakeSettings) {
		set.Sources = nil
		for device, rule := range map[string]futago.DedupRule{"d2": windowRule(), "d3": exactRule(0)} {
			set.Sources = append(set.Sources, futago.SourceRule{Source: addr(s.Lab, device), Kinds: []futago.Kind{futago.KindSyslog}, Dedup: &rule})
		}
	})
	return s
}

func TestModes_RepeatsAndReceipts(t *testing.T) {
	s := modeSite(t)
	three := []string{"a", "b", "a", "b", "b", "a"}
	// Exact: three true occurrences, once more after the folding time.
	s.say("d1", "exact", three...)
	s.sums("exact", sum{3, 6, 3, 3})
	time.Sleep(2 * fold)
	s.say("d1", "exact", "a", "b")
	s.sums("exact", sum{3, 6, 3, 3}, sum{1, 2, 1, 1})
	// Only one manager's copies arrive, and not all of them.
	s.say("d1", "half lost", "a", "a", "b")
	s.sums("half lost", sum{2, 3, 2, 1})
	s.say("d1", "half gone", "b")
	s.sums("half gone", sum{1, 1, 0, 1})
	// Without folding each occurrence is an event of its own.
	s.say("d3", "unfolded", three...)
	s.sums("unfolded", sum{1, 2, 1, 1}, sum{1, 2, 1, 1}, sum{1, 2, 1, 1})
	// By the window: one, however often; and again after it.
	s.say("d2", "window", three...)
	s.sums("window", sum{1, 6, 3, 3})
	time.Sleep(shortWindow)
	s.say("d2", "window", three...)
	s.sums("window", sum{1, 6, 3, 3}, sum{1, 6, 3, 3})
	// The same words of two senders are two traps.
	s.say("d1", "same words", "a", "b")
	s.say("d3", "same words", "a", "b")
	s.sums("same words", sum{1, 2, 1, 1}, sum{1, 2, 1, 1})
	s.same()
}

// A manager that was cut off for longer than copies may be apart brings them
// later, and they are judged by the times at which they arrived.
func TestModes_LateCopies(t *testing.T) {
	s := modeSite(t)
	s.must(s.Lab.Cut("a", "b"))
	on, off, _ := s.oneGoesOn(10 * time.Second)
	for i := range 3 {
		if i > 0 {
			time.Sleep(max(shortPair, shortWindow) + fold)
		}
		s.say("d1", "late exact", "a", "b", "a", "b")
		s.say("d2", "late window", "b", "a", "b", "a")
		s.say("d1", fmt.Sprintf("late single %d", i), off)
	}
	// A death in between: what the copies are compared with is rebuilt. What the
	// dead one had not read from its socket yet would be lost.
	s.only(on, s.send(on), on)
	s.kill(on)
	s.start(on)
	s.word(on, futago.RedundancyNoSpare)
	s.must(s.Lab.Heal("a", "b"))
	s.AwaitFull(20 * time.Second)
	s.sums("late exact", slices.Repeat([]sum{{2, 4, 2, 2}}, 3)...)
	s.sums("late window", slices.Repeat([]sum{{1, 4, 2, 2}}, 3)...)
	for i := range 3 {
		s.only(on, fmt.Sprintf("late single %d", i), off)
	}
	s.same()
}

// A change of mode takes effect for what arrives afterwards, on both managers
// alike, and events that are open keep their rule.
func TestModes_ChangeOfRule(t *testing.T) {
	s := modeSite(t)
	text := "rule changes"
	s.say("d1", text, "a", "b", "a", "b")
	s.sums(text, sum{2, 4, 2, 2})
	s.settings(func(set *futago.IntakeSettings) { set.Dedup[futago.KindSyslog] = windowRule() })
	time.Sleep(2 * fold)
	text = "rule has changed"
	s.say("d1", text, "a", "b", "a", "b")
	s.sums(text, sum{1, 4, 2, 2})
	s.kill("a", "b")
	s.start("a", "b")
	s.AwaitFull(20 * time.Second)
	text = "rule has survived"
	s.say("d1", text, "a", "b", "a", "b")
	s.sums(text, sum{1, 4, 2, 2})
	s.same()
}
