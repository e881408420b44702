package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/integration/rig"
	"github.com/futago/futago/manager"
)

// Members that were away for long, and members that come back with nothing.

// keepLittle makes managers keep as little log as they may.
func keepLittle(_ string, c *manager.Config) { c.Log.Keep = 1 << 20 }

// lastLog is the index of a manager's last entry.
func (s *site) lastLog(host string) uint64 {
	s.t.Helper()
	st, err := s.Status(host)
	s.must(err)
	for _, m := range st.Members {
		if string(m.Member) == host {
			return m.LastLog
		}
	}
	s.t.Fatalf("%s does not show itself", host)
	return 0
}

// fill makes a manager's log longer than what stays of it behind a snapshot:
// by so many entries more, of several KiB. The traps go to this manager alone.
func (s *site) fill(host string, entries uint64) {
	s.t.Helper()
	goal := s.lastLog(host) + entries
	url := "http://" + s.Lab.Host(host).AddrPort(8082).String() + "/"
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: s.Lab.Host("d1").DialContext, MaxIdleConnsPerHost: 50}}
	defer c.CloseIdleConnections()
	ctx := s.t.Context()
	var n atomic.Uint64
	var over atomic.Bool
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for !over.Load() {
				body := fmt.Sprintf(`{"DATA":[{"TYPE":"STRING","KEY":"fill","MSG":"%d %s"}]}`, n.Add(1), strings.Repeat("x", 4000))
				if err := post(ctx, c, url, body); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	s.Await(time.Minute, "a long log", func() error {
		if last := s.lastLog(host); last < goal {
			return fmt.Errorf("entry %d of %d", last, goal)
		}
		return nil
	})
	over.Store(true)
	wg.Wait()
}

func post(ctx context.Context, c *http.Client, url, body string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.Do(q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}

// A member that was away for longer than the log gets the database, while traps
// go on.
func TestAbsent_LongerThanTheLog(t *testing.T) {
	for _, third := range []bool{false, true} {
		t.Run(fmt.Sprintf("third=%t", third), func(t *testing.T) {
			s := newSite(t, rig.Options{Third: third, Configure: keepLittle})
			leader := s.leads()
			away := peer(leader)
			first := s.send()
			s.only(leader, first, "a", "b")
			s.kill(away)
			if third {
				s.kill("w") // it must get the database as well
				s.start("w")
			}
			s.fill(leader, 1350)
			s.Await(20*time.Second, "a snapshot", func() error { return snapshotAfter(s.Path(leader), 1100) })
			value := s.writes(leader)
			l := s.load()
			l.more(10)
			s.start(away)
			l.more(20)
			l.check(40 * time.Second)
			if log := s.Process(away).Log(); !strings.Contains(log, "Installed remote snapshot") {
				t.Errorf("%s came back without a snapshot; it had the log", away)
			}
			s.lead(away)
			s.holds(away, value)
			s.only(away, first, "a", "b")
			s.same()
		})
	}
}

// snapshotAfter is nil when the newest snapshot in a data directory is of the
// entry or a later one.
func snapshotAfter(dir string, entry uint64) error {
	names, err := filepath.Glob(filepath.Join(dir, "snapshots", "*.snapshot"))
	if err != nil {
		return err
	}
	for _, n := range names {
		var term, index uint64
		if _, err := fmt.Sscanf(filepath.Base(n), "%d-%d.snapshot", &term, &index); err != nil {
			return err
		}
		if index >= entry {
			return nil
		}
	}
	return fmt.Errorf("snapshots: %v", names)
}

// Killed again and again while it gets the database, a member ends with the
// right one.
func TestAbsent_KilledWhileInstalling(t *testing.T) {
	s := newSite(t, rig.Options{Configure: keepLittle})
	leader := s.leads()
	away := peer(leader)
	s.kill(away)
	s.fill(leader, 1350)
	s.Await(20*time.Second, "a snapshot", func() error { return snapshotAfter(s.Path(leader), 1100) })
	value := s.writes(leader)
	for i := range 8 {
		s.start(away)
		time.Sleep(time.Duration(100+40*i) * time.Millisecond)
		s.kill(away)
	}
	s.start(away)
	s.AwaitFull(30 * time.Second)
	s.lead(away)
	s.holds(away, value)
	s.same()
}

// A manager that lost its disk joins again under its name with a new token: it
// is somebody new to the third vote, is taken back, and then counts as before.
func TestAbsent_EmptiedDirectory(t *testing.T) {
	for _, lost := range []string{"a", "b"} { // a made the cluster
		t.Run(lost, func(t *testing.T) {
			s := newSite(t, rig.Options{})
			s.lead(lost) // the loss of a leader is the harder one
			text := s.send()
			s.only("a", text, "a", "b")
			value := s.writes(lost)
			s.kill(lost)
			before := identity(t, s.Path(lost))
			stays := peer(lost)
			s.holds(s.leads(stays), value)
			value = s.writes(stays)
			old := filepath.Join(s.Lab.Dir(), "old")
			s.must(os.Rename(s.Path(lost), old))
			l := s.load()
			s.Join(lost, stays)
			s.start(lost)
			l.more(20)
			l.check(30 * time.Second)
			// It counts: the other one may go now.
			s.only(lost, text, "a", "b")
			s.kill(stays)
			s.holds(s.leads(lost), value)
			value = s.writes(lost)
			s.start(stays)
			s.AwaitFull(20 * time.Second)
			s.holds(s.leads(), value)

			// The old directory is found again, and refused.
			s.kill(lost)
			if after := identity(t, s.Path(lost)); after == before {
				t.Errorf("the new directory is called %s, as the old one", after)
			}
			s.must(os.Rename(s.Path(lost), s.Path(lost)+"-new"))
			s.must(os.Rename(old, s.Path(lost)))
			s.start(lost)
			s.writes(stays)
			s.word(lost, futago.RedundancyStoppedSafe, "was given up when another host joined in its place")
			s.word(stays, futago.RedundancyNoSpare)
			s.refuses(lost)
			s.kill(lost)
			s.must(os.Rename(s.Path(lost), old))
			s.must(os.Rename(s.Path(lost)+"-new", s.Path(lost)))
			value = s.writes(stays)
			s.start(lost)
			s.AwaitFull(20 * time.Second)
			s.holds(s.leads(), value)
			s.same()
		})
	}
}

// identity is the name of a stopped manager's data directory.
func identity(t *testing.T, dir string) string {
	t.Helper()
	d, err := cluster.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	return d.Node().Directory
}

// A third member that lost its disk joins again.
func TestAbsent_ThirdMemberEmptied(t *testing.T) {
	s := newSite(t, rig.Options{Third: true})
	value := s.writes(s.leads())
	s.kill("w")
	s.must(os.RemoveAll(s.Path("w")))
	s.Join("w", s.leads())
	s.start("w")
	s.AwaitFull(30 * time.Second)
	leader := s.leads()
	s.kill(leader)
	s.holds(s.leads(peer(leader)), value)
	s.word(peer(leader), futago.RedundancyNoSpare)
	s.start(leader)
	s.same()
}
