package integration_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/lab"
	"github.com/futago/futago/integration/rig"
	"github.com/futago/futago/manager"
)

// Disks that fill up, fail, slow down and hang, under a manager that works.

// The log file grows by 16 MiB at a time, so there must be more room than that
// below the limit for a member to step down before a write fails.
const (
	diskSize = 192 << 20
	minFree  = 64 << 20
	little   = minFree - 8<<20
)

// smallDisks gives both managers disks of limited size.
func smallDisks(t *testing.T) (*site, map[string]*lab.SmallDisk) {
	t.Helper()
	disks := map[string]*lab.SmallDisk{}
	s := newSite(t, rig.Options{
		Place: func(h *lab.Host) string {
			if h.Name() == "w" {
				return ""
			}
			d, err := h.SmallDisk(diskSize)
			if err != nil {
				t.Fatal(err)
			}
			disks[h.Name()] = d
			return filepath.Join(d.Path(), "data")
		},
		Configure: func(_ string, c *manager.Config) { c.MinFree = minFree },
	})
	return s, disks
}

// faultyDisks gives both managers disks that can fail.
func faultyDisks(t *testing.T) (*site, map[string]*lab.FaultyDisk) {
	t.Helper()
	disks := map[string]*lab.FaultyDisk{}
	s := newSite(t, rig.Options{Place: func(h *lab.Host) string {
		if h.Name() == "w" {
			return ""
		}
		d, err := h.FaultyDisk()
		if errors.Is(err, lab.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		disks[h.Name()] = d
		return filepath.Join(d.Path(), "data")
	}})
	return s, disks
}

// local is what a manager says of itself.
func (s *site) local(host string) (futago.LocalStatus, error) {
	st, err := s.Status(host)
	if err != nil {
		return futago.LocalStatus{}, err
	}
	for _, m := range st.Members {
		if string(m.Member) == host {
			return m.Local, nil
		}
	}
	return futago.LocalStatus{}, errors.New("it does not show itself")
}

// state waits until a manager says of itself that it is in a state, with a
// detail that holds the text.
func (s *site) state(host, state, detail string) {
	s.t.Helper()
	s.Await(15*time.Second, fmt.Sprintf("%s is in state %s", host, state), func() error {
		l, err := s.local(host)
		if err == nil && (l.State != state || !strings.Contains(l.Detail, detail)) {
			err = fmt.Errorf("it is in state %q: %s", l.State, l.Detail)
		}
		return err
	})
}

// stops waits until a manager says that it takes no part, and why.
func (s *site) stops(host string) {
	s.t.Helper()
	s.Await(15*time.Second, host+" stops", func() error {
		l, err := s.local(host)
		if err == nil && (l.State == "running" || l.Detail == "") {
			err = fmt.Errorf("it is in state %q: %s", l.State, l.Detail)
		}
		return err
	})
}

// roles are the managers that a fault is tried on.
var roles = []string{"leader", "standby"}

func (s *site) inRole(role string) string {
	s.t.Helper()
	if role == "leader" {
		return s.leads()
	}
	return peer(s.leads())
}

// A disk that gets full slowly: the member steps down before a write fails.
func TestDisk_LittleRoom(t *testing.T) {
	for _, role := range roles {
		t.Run(role, func(t *testing.T) {
			s, disks := smallDisks(t)
			full := s.inRole(role)
			value := s.writes(s.leads())
			l := s.load()
			l.more(10)
			s.must(disks[full].Fill(little))
			s.state(full, string(futago.CodeStorageFull), "free space on")
			s.word(full, futago.RedundancyNoSpare, "free space on")
			s.word(peer(full), futago.RedundancyNoSpare, "manager "+full+" does not take part")
			s.holds(peer(full), value)
			value = s.writes(peer(full))
			s.only(peer(full), s.send(peer(full)), peer(full))
			kept := s.send(full) // there is still room for traps
			s.must(disks[full].Free())
			s.state(full, "running", "")
			l.more(10)
			l.check(30 * time.Second)
			s.only("a", kept, full)
			s.holds(s.leads(), value)
			if log := s.Process(full).Log(); strings.Contains(log, "no space left") {
				t.Error("a write has failed for want of room")
			}
			s.same()
		})
	}
}

// A disk that is full at once: writes fail in the middle of work.
func TestDisk_NoRoom(t *testing.T) {
	for _, role := range roles {
		t.Run(role, func(t *testing.T) {
			s, disks := smallDisks(t)
			full := s.inRole(role)
			value := s.writes(s.leads())
			l := s.load()
			l.more(10)
			s.must(disks[full].Fill(0))
			s.state(full, string(futago.CodeStorageFull), "free space on")
			s.word(peer(full), futago.RedundancyNoSpare, "manager "+full+" does not take part")
			s.holds(peer(full), value)
			value = s.writes(peer(full))
			l.more(20)
			s.must(disks[full].Free())
			s.state(full, "running", "")
			l.more(10)
			l.check(30 * time.Second)
			s.holds(s.leads(), value)
			s.same()
		})
	}
}

// Both are full: nothing is written and nothing that was acknowledged is lost.
func TestDisk_NoRoomAnywhere(t *testing.T) {
	s, disks := smallDisks(t)
	value := s.writes(s.leads())
	text := s.send()
	s.only("a", text, "a", "b")
	for _, host := range []string{"a", "b"} {
		s.must(disks[host].Fill(0))
	}
	for _, host := range []string{"a", "b"} {
		s.word(host, futago.RedundancyStoppedSafe, "free space on")
		s.refuses(host)
	}
	for _, host := range []string{"a", "b"} {
		s.must(disks[host].Free())
	}
	s.AwaitFull(30 * time.Second)
	s.holds(s.leads(), value)
	s.only("b", text, "a", "b")
	s.only("b", s.send(), "a", "b")
	s.same()
}

// goesOn waits until a manager leads or cannot. It cannot when the other one's
// last act, before its disk ended it, was to write itself down as the only
// holder, for its peer was slow in that very moment: then nothing goes on,
// safely, until that one is back.
func (s *site) goesOn(host, dead string) (leads bool) {
	s.t.Helper()
	s.Await(15*time.Second, host+" leads, or may not", func() error {
		st, err := s.Status(host)
		switch {
		case err != nil:
			return err
		case string(st.Leader) == host:
			leads = true
			return nil
		case st.Redundancy == futago.RedundancyStoppedSafe && st.ThirdVote.Reachable && st.ThirdVote.Holders == dead:
			return nil
		default:
			return fmt.Errorf("it says %s, leader %q, holders %s", st.Redundancy, st.Leader, st.ThirdVote.Holders)
		}
	})
	return leads
}

// Writes, or flushes, of one manager fail: it stops taking part and the other
// one goes on. When the disk is good again, it comes back by itself.
func TestDisk_Errors(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault lab.DiskFault
	}{
		{"flush EIO", lab.DiskFault{FailSync: syscall.EIO}},
		{"write EIO", lab.DiskFault{FailWrite: syscall.EIO}},
		{"read-only", lab.DiskFault{FailWrite: syscall.EROFS, FailSync: syscall.EROFS}},
	} {
		for _, role := range roles {
			t.Run(c.name+" "+role, func(t *testing.T) {
				s, disks := faultyDisks(t)
				bad := s.inRole(role)
				value := s.writes(s.leads())
				l := s.load()
				l.more(10)
				s.must(disks[bad].Set(c.fault))
				s.stops(bad)
				if s.goesOn(peer(bad), bad) {
					s.word(peer(bad), futago.RedundancyNoSpare, bad)
					s.holds(peer(bad), value)
					value = s.writes(peer(bad))
				}
				l.more(20)
				s.must(disks[bad].Set(lab.DiskFault{}))
				l.more(10)
				l.check(45 * time.Second)
				s.holds(s.leads(), value)
				s.same()
			})
		}
	}
}

// A slow disk makes the service slow, and makes no elections to speak of.
func TestDisk_Slow(t *testing.T) {
	for _, role := range roles {
		t.Run(role, func(t *testing.T) {
			s, disks := faultyDisks(t)
			slow := s.inRole(role)
			leader := s.leads()
			r := s.reign(leader)
			l := s.load()
			l.more(10)
			s.must(disks[slow].Set(lab.DiskFault{SlowSync: 100 * time.Millisecond}))
			var value string
			start := time.Now()
			paced(t.Context(), 10, 0, func(int) { value = s.writes(leader) })
			t.Logf("10 writes one after another in %s", time.Since(start).Round(time.Millisecond))
			r.goesOn(2)
			s.holds(leader, value)
			s.must(disks[slow].Set(lab.DiskFault{}))
			l.more(10)
			l.check(30 * time.Second)
			s.same()
		})
	}
}

// A standby whose disk hangs is left behind.
func TestDisk_StandbyHangs(t *testing.T) {
	s, disks := faultyDisks(t)
	leader := s.leads()
	hangs := peer(leader)
	l := s.load()
	l.more(10)
	s.must(disks[hangs].Set(lab.DiskFault{Hang: true}))
	value := s.writes(leader)
	s.word(leader, futago.RedundancyNoSpare, "manager "+hangs+" does not answer")
	s.only(leader, s.send(leader), leader)
	s.holds(leader, value)
	value = s.writes(leader)
	s.must(disks[hangs].Set(lab.DiskFault{}))
	l.more(10)
	l.check(30 * time.Second)
	s.holds(s.leads(), value)
	s.same()
}

// A leader whose disk hangs goes on sending heartbeats, so nobody takes over as
// long as it lives: nothing is acknowledged meanwhile, and nothing that was is
// lost. What the status says of it is not promised. Killed, or cut off as here (a
// process that waits for a hanging disk cannot be killed), it is replaced at once.
func TestDisk_LeaderHangs(t *testing.T) {
	s, disks := faultyDisks(t)
	hangs := s.leads()
	value := s.writes(hangs)
	s.must(disks[hangs].Set(lab.DiskFault{Hang: true}))
	kept := s.send(peer(hangs))
	paced(t.Context(), 3, 0, func(int) {
		s.refuses(hangs)
		s.refuses(peer(hangs))
	})
	s.must(s.Lab.Isolate(hangs))
	s.only(peer(hangs), kept, peer(hangs))
	s.holds(peer(hangs), value)
	value = s.writes(peer(hangs))
	s.must(disks[hangs].Set(lab.DiskFault{}))
	s.must(s.Lab.Rejoin(hangs))
	s.AwaitFull(30 * time.Second)
	s.holds(s.leads(), value)
	s.only(hangs, kept, peer(hangs))
	s.same()
}
