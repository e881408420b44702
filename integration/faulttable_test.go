package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/lab"
	"github.com/futago/futago/integration/rig"
)

// The rows of the table of faults in docs/third-vote.md, each against the whole
// product.

func TestFault_StandbyDies(t *testing.T) {
	s := newSite(t, rig.Options{})
	leader := s.leads()
	standby := peer(leader)
	before := s.writes(leader)
	s.kill(standby)
	at := time.Now()
	text := s.send(leader)
	s.only(leader, text, leader)
	t.Logf("the first trap after the death was recorded within %s", time.Since(at).Round(time.Millisecond))
	s.holds(leader, before)
	after := s.writes(leader)
	s.word(leader, futago.RedundancyNoSpare, "manager "+standby+" does not answer")
	s.start(standby)
	s.AwaitFull(20 * time.Second)
	s.holds(leader, after)
	s.only(standby, text, leader)
	s.same()
}

func TestFault_LeaderDies(t *testing.T) {
	s := newSite(t, rig.Options{})
	leader := s.leads()
	standby := peer(leader)
	before := s.writes(leader)
	first := s.send()
	s.only(leader, first, "a", "b")
	s.kill(leader)
	at := time.Now()
	text := s.send(standby)
	s.only(standby, text, standby)
	t.Logf("the first trap after the death was recorded within %s", time.Since(at).Round(time.Millisecond))
	s.holds(standby, before)
	after := s.writes(standby)
	s.word(standby, futago.RedundancyNoSpare, "manager "+leader+" does not answer")
	s.start(leader)
	s.AwaitFull(20 * time.Second)
	s.holds(s.leads(), after)
	s.only(leader, first, "a", "b")
	s.only(leader, text, standby)
	s.same()
}

func TestFault_RegisterDies(t *testing.T) {
	s := newSite(t, rig.Options{})
	leader := s.leads()
	r := s.reign(leader)
	s.kill("w")
	s.word(leader, futago.RedundancyNoSpare, "the third vote does not answer")
	s.word(peer(leader), futago.RedundancyNoSpare, "the third vote does not answer")
	paced(t.Context(), 8, 250*time.Millisecond, func(int) {
		value := s.writes(leader)
		s.holds(leader, value)
		s.only(peer(leader), s.send(), "a", "b")
	})
	r.goesOn(0)
	s.start("w")
	s.AwaitFull(20 * time.Second)
}

// A planned switch needs no register: the two managers are a majority.
func TestFault_RegisterDeadThenSwitch(t *testing.T) {
	s := newSite(t, rig.Options{})
	leader := s.leads()
	value := s.writes(leader)
	s.kill("w")
	s.word(leader, futago.RedundancyNoSpare, "the third vote does not answer")
	c := s.Client(leader)
	defer c.Close()
	s.must(c.Do(t.Context(), "POST", "/api/v1/switch", "", nil, nil))
	s.Await(10*time.Second, "the other one leads", func() error {
		if l := s.leads(); l != peer(leader) {
			return fmt.Errorf("%s leads", l)
		}
		return nil
	})
	s.holds(peer(leader), value)
	s.only(leader, s.send(), "a", "b")
	s.start("w")
	s.AwaitFull(20 * time.Second)
}

func TestFault_CutBetweenManagers(t *testing.T) {
	for _, side := range []string{"a", "b"} {
		t.Run("leader="+side, func(t *testing.T) {
			s := newSite(t, rig.Options{})
			s.lead(side)
			before := s.writes(side)
			s.must(s.Lab.Cut("a", "b"))
			// Nobody has to know which side goes on; that it is one.
			on, off, value := s.oneGoesOn(10 * time.Second)
			texts := []string{s.send(), s.send()}
			for _, text := range texts {
				s.only(on, text, on)
			}
			s.spooled(off, 2)
			s.word(on, futago.RedundancyNoSpare, "manager "+off+" does not answer")
			s.word(off, futago.RedundancyStoppedSafe)
			paced(t.Context(), 3, 0, func(int) {
				s.refuses(off)
				if v, err := s.strong(off); err == nil {
					t.Errorf("%s served a strong read, %s, while %s has acknowledged %s", off, v, on, value)
				}
				value = s.writes(on)
				s.holds(on, value)
			})
			// What it knows it still shows to those who do not mind its age.
			if found, err := s.with(off, "no such text"); err != nil || len(found) != 0 {
				t.Errorf("an ordinary read at %s: %v, %v", off, found, err)
			}
			s.must(s.Lab.Heal("a", "b"))
			s.AwaitFull(20 * time.Second)
			s.holds(s.leads(), value)
			for _, text := range texts {
				s.only(off, text, "a", "b")
			}
			if value == before {
				t.Error("nothing was written during the cut")
			}
			s.same()
		})
	}
}

func TestFault_RegisterDeadThenManagerDies(t *testing.T) {
	for _, victim := range []string{"leader", "standby"} {
		for _, back := range []string{"the manager", "the register"} {
			t.Run(victim+" dies, "+back+" returns", func(t *testing.T) {
				s := newSite(t, rig.Options{})
				dead := s.leads()
				if victim == "standby" {
					dead = peer(dead)
				}
				alive := peer(dead)
				value := s.writes(s.leads())
				s.kill("w")
				s.word(alive, futago.RedundancyNoSpare)
				s.kill(dead)
				s.word(alive, futago.RedundancyStoppedSafe, "the third vote does not answer", "manager "+dead+" does not answer")
				texts := []string{s.send(alive), s.send(alive)}
				s.spooled(alive, 2)
				s.refuses(alive)
				if v, err := s.strong(alive); err == nil {
					t.Errorf("a strong read gives %s", v)
				}
				if back == "the register" {
					s.start("w")
				} else {
					s.start(dead)
				}
				for _, text := range texts {
					s.only(alive, text, alive)
				}
				s.holds(s.leads(alive), value)
				if back == "the register" {
					s.start(dead)
				} else {
					s.start("w")
				}
				s.same()
			})
		}
	}
}

func TestFault_ManagerDeadThenRegisterDies(t *testing.T) {
	s := newSite(t, rig.Options{})
	leader := s.leads()
	s.kill(peer(leader))
	s.writes(leader) // alone, so that is written down
	s.kill("w")
	r := s.reign(leader)
	var value string
	paced(t.Context(), 10, 200*time.Millisecond, func(int) {
		value = s.writes(leader)
		s.holds(leader, value)
		s.only(leader, s.send(leader), leader)
	})
	s.word(leader, futago.RedundancyNoSpare, "manager "+peer(leader)+" does not answer", "the third vote does not answer")
	r.goesOn(0)
	// It may not know of itself after a restart: what allows it to write is
	// the register's word, and that cannot be read.
	s.kill(leader)
	s.start(leader)
	s.word(leader, futago.RedundancyStoppedSafe, "the third vote does not answer")
	s.refuses(leader)
	s.start("w")
	s.holds(s.leads(leader), value)
	s.start(peer(leader))
	s.same()
}

func TestFault_OnlyTheStaleOneBoots(t *testing.T) {
	s := newSite(t, rig.Options{})
	fresh := s.leads()
	stale := peer(fresh)
	s.kill(stale)
	value := s.writes(fresh)
	text := s.send(fresh)
	s.only(fresh, text, fresh)
	s.kill(fresh)
	s.start(stale)
	// The record names the other one as holder, and so must the finding.
	s.word(stale, futago.RedundancyStoppedSafe, "manager "+fresh+" does not answer", "only manager "+fresh)
	kept := s.send(stale)
	s.spooled(stale, 1)
	paced(t.Context(), 3, 0, func(int) {
		s.refuses(stale)
		if v, err := s.strong(stale); err == nil {
			t.Fatalf("a strong read gives %s", v)
		}
	})
	s.start(fresh)
	s.AwaitFull(20 * time.Second)
	s.holds(s.leads(), value)
	s.only(stale, text, fresh)
	s.only(fresh, kept, stale)
	s.same()
}

func TestFault_LeaderWentOnAloneAndDied(t *testing.T) {
	s := newSite(t, rig.Options{})
	s.must(s.Lab.Cut("a", "b"))
	on, off, _ := s.oneGoesOn(10 * time.Second)
	text := s.send()
	s.only(on, text, on)
	value := s.writes(on)
	s.kill(on)
	s.must(s.Lab.Heal("a", "b"))
	s.word(off, futago.RedundancyStoppedSafe, "manager "+on+" does not answer", "only manager "+on)
	paced(t.Context(), 3, 0, func(int) {
		s.refuses(off)
		if v, err := s.strong(off); err == nil {
			t.Fatalf("a strong read gives %s, acknowledged was %s", v, value)
		}
	})
	s.start(on)
	s.AwaitFull(20 * time.Second)
	s.holds(s.leads(), value)
	s.only(off, text, "a", "b")
	s.same()
}

func TestFault_RegisterRestoredFromACopy(t *testing.T) {
	s := newSite(t, rig.Options{})
	leader := s.leads()
	standby := peer(leader)
	dir, yesterday, today := s.Path("w"), filepath.Join(s.Lab.Dir(), "yesterday"), filepath.Join(s.Lab.Dir(), "today")
	s.kill("w")
	s.must(os.CopyFS(yesterday, os.DirFS(dir)))
	s.start("w")
	s.AwaitFull(20 * time.Second)
	// The record moves: alone, and both again.
	s.kill(standby)
	s.writes(leader)
	s.start(standby)
	s.AwaitFull(20 * time.Second)

	s.kill("w")
	s.must(os.Rename(dir, today))
	s.must(os.CopyFS(dir, os.DirFS(yesterday)))
	s.start("w")
	for _, host := range []string{leader, standby} {
		s.word(host, futago.RedundancyNoSpare, "the register went back")
	}
	value := s.writes(leader)
	s.only(standby, s.send(), "a", "b")
	s.only(leader, "manager "+leader+" refuses the third vote's record, which went back", leader)
	// The old record would give a vote twice; it is not asked.
	s.kill(leader)
	s.word(standby, futago.RedundancyStoppedSafe, "the register went back")
	s.refuses(standby)
	// The right one comes back.
	s.kill("w")
	s.must(os.RemoveAll(dir))
	s.must(os.Rename(today, dir))
	s.start("w")
	s.holds(s.leads(standby), value)
	s.start(leader)
	s.same()
}

func TestFault_BothBootAtOnce(t *testing.T) {
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			s := newSite(t, rig.Options{})
			value := s.writes(s.leads())
			text := s.send()
			s.only("a", text, "a", "b")
			paced(t.Context(), 3, 0, func(int) {
				s.kill("a", "b")
				s.start(order...)
				s.AwaitFull(15 * time.Second)
				s.holds(s.leads(), value)
			})
			s.only("b", text, "a", "b")
			s.same()
		})
	}
}

func TestFault_RestartStorm(t *testing.T) {
	s := newSite(t, rig.Options{})
	value := s.writes(s.leads())
	var texts []string
	paced(t.Context(), 10, 0, func(i int) {
		host := []string{"a", "b", "w"}[i%3]
		s.kill(host)
		if host != "w" {
			texts = append(texts, s.send(peer(host)))
		}
		// From at once to about an election later.
		time.Sleep(time.Duration(i) * 60 * time.Millisecond)
		s.start(host)
	})
	s.AwaitFull(30 * time.Second)
	s.holds(s.leads(), value)
	for _, text := range texts {
		found, err := s.with("a", text)
		if err != nil || len(found) > 1 {
			t.Errorf("%q: %d events, %v", text, len(found), err)
		}
	}
	s.only("a", s.send(), "a", "b")
	s.same()
}

// A witness in another town costs time and nothing else, also when it was
// restarted and everybody has to connect anew. The limit on the round trip
// follows from the heartbeat: a read is given up after half of it, and the
// first one on a connection takes three round trips.
func TestFault_WitnessIsFar(t *testing.T) {
	for _, delay := range []time.Duration{10 * time.Millisecond, 20 * time.Millisecond} {
		t.Run(delay.String()+" each way", func(t *testing.T) {
			s := newSite(t, rig.Options{Lab: lab.Config{Fabric: lab.Switch, Seed: 1}})
			leader := s.leads()
			s.witnessDelay(delay)
			r := s.reign(leader)
			s.kill("w")
			s.word(leader, futago.RedundancyNoSpare, "the third vote does not answer")
			s.start("w")
			s.AwaitFull(15 * time.Second)
			paced(t.Context(), 10, 200*time.Millisecond, func(int) {
				s.writes(leader)
				s.only(peer(leader), s.send(), "a", "b")
			})
			r.goesOn(0)
			value := s.writes(leader)
			s.kill(leader)
			at := time.Now()
			text := s.send(peer(leader))
			s.only(peer(leader), text, peer(leader))
			t.Logf("failover in %s", time.Since(at).Round(time.Millisecond))
			s.holds(peer(leader), value)
			s.start(leader)
			s.same()
		})
	}
}

// One that is slower than that is none: it is said, and nothing else happens
// until a manager fails. Then the service stops, and goes on by itself.
func TestFault_WitnessIsTooSlow(t *testing.T) {
	s := newSite(t, rig.Options{Lab: lab.Config{Fabric: lab.Switch, Seed: 1}})
	leader := s.leads()
	r := s.reign(leader)
	s.witnessDelay(250 * time.Millisecond)
	s.word(leader, futago.RedundancyNoSpare, "the third vote does not answer")
	paced(t.Context(), 10, 200*time.Millisecond, func(int) {
		s.writes(leader)
		s.only(peer(leader), s.send(), "a", "b")
	})
	r.goesOn(0)
	value := s.writes(leader)
	s.kill(leader)
	s.word(peer(leader), futago.RedundancyStoppedSafe, "the third vote does not answer")
	text := s.send(peer(leader))
	s.spooled(peer(leader), 1)
	s.refuses(peer(leader))
	s.witnessDelay(0)
	s.only(peer(leader), text, peer(leader))
	s.holds(peer(leader), value)
	s.start(leader)
	s.same()
}

func (s *site) witnessDelay(d time.Duration) {
	s.t.Helper()
	for _, h := range []string{"a", "b"} {
		s.must(s.Lab.Delay(h, "w", d, d/10))
		s.must(s.Lab.Delay("w", h, d, d/10))
	}
}

// Lossy links cost time; they make no second leader and lose nothing that was
// received.
func TestFault_LossyLinks(t *testing.T) {
	for _, share := range []float64{0.01, 0.05, 0.2} {
		t.Run(fmt.Sprintf("%.0f%%", 100*share), func(t *testing.T) {
			s := newSite(t, rig.Options{Lab: lab.Config{Fabric: lab.Switch, Seed: uint64(1000 * share)}})
			for _, l := range [][2]string{{"a", "b"}, {"a", "w"}, {"b", "w"}} {
				s.must(s.Lab.Loss(l[0], l[1], share))
				s.must(s.Lab.Loss(l[1], l[0], share))
			}
			first := max(s.term("a"), s.term("b"))
			var texts []string
			acked := ""
			start := time.Now()
			writes := 0
			for time.Since(start) < 6*time.Second {
				texts = append(texts, s.send())
				for _, host := range []string{"a", "b"} {
					if v, err := s.write(host); err == nil {
						acked = v
						writes++
					}
				}
				time.Sleep(100 * time.Millisecond)
			}
			terms := max(s.term("a"), s.term("b")) - first
			t.Logf("%d writes, %d new terms", writes, terms)
			if terms > 20 {
				t.Errorf("%d elections in %s", terms, time.Since(start))
			}
			s.must(s.Lab.HealAll())
			s.AwaitFull(30 * time.Second)
			for _, text := range texts {
				s.only("a", text, "a", "b")
			}
			// A write without an answer may have come after the last one with.
			if acked == "" {
				t.Error("no write was acknowledged")
			}
			s.same()
		})
	}
}

// A link that works in one direction only must not make elections without end:
// somebody leads, and stays.
func TestFault_OneWayCut(t *testing.T) {
	for _, cut := range [][2]string{{"leader", "standby"}, {"standby", "leader"}, {"leader", "w"}, {"w", "leader"}, {"standby", "w"}, {"w", "standby"}} {
		t.Run(cut[0]+" to "+cut[1], func(t *testing.T) {
			s := newSite(t, rig.Options{})
			leader := s.leads()
			name := map[string]string{"leader": leader, "standby": peer(leader), "w": "w"}
			r := s.reign(leader)
			s.must(s.Lab.CutOneWay(name[cut[0]], name[cut[1]]))
			on, _, _ := s.oneGoesOn(15 * time.Second)
			settled := s.reign(on)
			text := s.send()
			var value string
			paced(t.Context(), 10, 200*time.Millisecond, func(int) { value = s.writes(on) })
			s.only(on, text, receiversDuring(cut, on)...)
			settled.goesOn(0)
			r.leader = on
			r.goesOn(5)
			s.must(s.Lab.HealAll())
			s.AwaitFull(20 * time.Second)
			s.holds(s.leads(), value)
			s.only("a", text, "a", "b")
			s.same()
		})
	}
}

// receiversDuring tells whose copies get to the leader during a one-way cut:
// both managers' unless the link between them is the one.
func receiversDuring(cut [2]string, on string) []string {
	if cut[0] == "w" || cut[1] == "w" {
		return []string{"a", "b"}
	}
	return []string{on}
}
