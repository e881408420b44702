package integration_test

import (
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/rig"
)

// The third vote as a third member on w, which keeps log and state and has no
// listeners.

func TestThirdMember_LeaderDies(t *testing.T) {
	s := newSite(t, rig.Options{Third: true})
	for range 3 { // w is elected by chance and hands over
		leader := s.leads()
		value := s.writes(leader)
		s.kill(leader)
		at := time.Now()
		text := s.send(peer(leader))
		s.only(peer(leader), text, peer(leader))
		t.Logf("the first trap after the death was recorded within %s", time.Since(at).Round(time.Millisecond))
		s.holds(s.leads(peer(leader)), value)
		if got := s.leads(peer(leader)); got != peer(leader) {
			t.Errorf("%s leads", got)
		}
		s.word(peer(leader), futago.RedundancyNoSpare, "manager "+leader+" does not answer")
		s.writes(peer(leader))
		s.start(leader)
		s.AwaitFull(20 * time.Second)
		s.only(leader, text, peer(leader))
	}
	s.same()
}

func TestThirdMember_ThirdDies(t *testing.T) {
	s := newSite(t, rig.Options{Third: true})
	leader := s.leads()
	r := s.reign(leader)
	s.kill("w")
	s.word(leader, futago.RedundancyNoSpare, "the third member w does not take part")
	paced(t.Context(), 8, 200*time.Millisecond, func(int) {
		s.holds(leader, s.writes(leader))
		s.only(peer(leader), s.send(), "a", "b")
	})
	r.goesOn(0)
	// The next failure stops it.
	value := s.writes(leader)
	s.kill(leader)
	s.word(peer(leader), futago.RedundancyStoppedSafe, "manager "+leader+" does not answer", "the third member w does not take part")
	text := s.send(peer(leader))
	s.spooled(peer(leader), 1)
	s.refuses(peer(leader))
	if v, err := s.strong(peer(leader)); err == nil {
		t.Errorf("a strong read gives %s", v)
	}
	s.start("w")
	s.only(peer(leader), text, peer(leader))
	s.holds(peer(leader), value)
	s.start(leader)
	s.same()
}

func TestThirdMember_CutBetweenManagers(t *testing.T) {
	s := newSite(t, rig.Options{Third: true})
	s.writes(s.leads())
	s.must(s.Lab.Cut("a", "b"))
	on, off, value := s.oneGoesOn(15 * time.Second)
	text := s.send()
	s.only(on, text, on)
	s.spooled(off, 1)
	s.word(on, futago.RedundancyNoSpare, "manager "+off+" does not answer")
	r := s.reign(on)
	paced(t.Context(), 4, 0, func(int) {
		s.refuses(off)
		if v, err := s.strong(off); err == nil {
			t.Errorf("%s served a strong read, %s, while %s has acknowledged %s", off, v, on, value)
		}
		value = s.writes(on)
	})
	// The cut-off one reaches w and could depose the leader again and again.
	r.goesOn(0)
	s.must(s.Lab.Heal("a", "b"))
	s.AwaitFull(20 * time.Second)
	s.holds(s.leads(), value)
	s.only(off, text, "a", "b")
	s.same()
}

func TestThirdMember_LeaderIsolated(t *testing.T) {
	s := newSite(t, rig.Options{Third: true})
	leader := s.leads()
	s.writes(leader)
	s.must(s.Lab.Cut(leader, peer(leader)))
	s.must(s.Lab.Cut(leader, "w"))
	on, off, value := s.oneGoesOn(15 * time.Second)
	if off != leader {
		t.Errorf("%s went on, and was cut off", on)
	}
	text := s.send()
	s.only(on, text, on)
	s.refuses(off)
	s.word(off, futago.RedundancyStoppedSafe)
	s.must(s.Lab.HealAll())
	s.AwaitFull(20 * time.Second)
	s.holds(s.leads(), value)
	s.only(off, text, "a", "b")
	s.same()
}

func TestThirdMember_AllBootAtOnce(t *testing.T) {
	s := newSite(t, rig.Options{Third: true})
	value := s.writes(s.leads())
	for _, order := range [][]string{{"a", "b", "w"}, {"w", "b", "a"}} {
		s.kill("a", "b", "w")
		s.start(order...)
		s.AwaitFull(20 * time.Second)
		s.holds(s.leads(), value)
	}
	// The two that know everything are enough; which they are does not matter.
	leader := s.leads()
	s.kill("a", "b", "w")
	s.start(peer(leader), "w")
	s.holds(s.leads(peer(leader)), value)
	s.start(leader)
	s.same()
}
