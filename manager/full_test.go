package manager_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/manager"
)

// smallDisk puts a member's data directory on a file system of its own.
func (s *site) smallDisk(id futago.MemberID, megabytes int) {
	s.t.Helper()
	s.must(os.MkdirAll(s.dir(id), 0o700))
	err := unix.Mount("tmpfs", s.dir(id), "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", megabytes))
	if errors.Is(err, unix.EPERM) {
		s.t.Skip("mounting a small file system needs root")
	}
	s.must(err)
	s.t.Cleanup(func() {
		// The managers on it end after this.
		if err := unix.Unmount(s.dir(id), unix.MNT_DETACH); err != nil {
			s.t.Errorf("unmount: %v", err)
		}
	})
}

// fill takes room on a member's disk until only so many bytes are left.
func (s *site) fill(id futago.MemberID, left uint64) {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir(id), "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	s.must(err)
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for {
		var st unix.Statfs_t
		s.must(unix.Statfs(s.dir(id), &st))
		free := st.Bavail * uint64(st.Bsize)
		if free <= left {
			return
		}
		if _, err := f.Write(chunk[:min(uint64(len(chunk)), free-left)]); err != nil {
			if errors.Is(err, unix.ENOSPC) {
				return
			}
			s.t.Fatal(err)
		}
	}
}

func (s *site) free(id futago.MemberID) {
	s.t.Helper()
	s.must(os.Remove(filepath.Join(s.dir(id), "filler")))
}

// smallPair is a pair whose b has a small disk and leads.
func smallPair(t *testing.T, minFree manager.ByteSize) *site {
	t.Helper()
	s := newSite(t, cluster.ThirdVoteRegister)
	s.smallDisk(futago.MemberB, 96)
	s.change = func(id futago.MemberID, c *manager.Config) {
		if id == futago.MemberB {
			c.MinFree = minFree
		}
	}
	s.start(futago.MemberA)
	s.join(futago.MemberA, futago.MemberB)
	s.start(futago.MemberB)
	s.awaitWord(futago.MemberA, futago.RedundancyFull)
	// b takes it once it has read itself in the record.
	s.eventually("the switch to b", func() error {
		return s.client(futago.MemberA, func(c *client.Client) error {
			return c.Do(t.Context(), http.MethodPost, "/api/v1/switch", newKey(), nil, nil)
		})
	})
	s.eventually("b leads", func() error {
		if st, err := s.status(futago.MemberB); err != nil || st.Leader != futago.MemberB {
			return fmt.Errorf("%q leads, %w", st.Leader, err)
		}
		return nil
	})
	s.awaitWord(futago.MemberB, futago.RedundancyFull)
	return s
}

// TestManager_DiskNearlyFull lets the room of the leader fall below min_free:
// it hands over before any write fails, says why on both managers, keeps what it
// receives, and comes back by itself.
func TestManager_DiskNearlyFull(t *testing.T) {
	s := smallPair(t, 32<<20)
	s.fill(futago.MemberB, 24<<20)
	s.stopped(futago.MemberB, futago.CodeStorageFull, "min_free is 32", "at 48 MiB this member goes on by itself")
	st := s.awaitWord(futago.MemberA, futago.RedundancyNoSpare, "manager b does not take part", "min_free")
	if st.Leader != futago.MemberA {
		t.Errorf("%q leads", st.Leader)
	}
	s.awaitWord(futago.MemberB, futago.RedundancyNoSpare, "manager b does not take part")
	s.must(s.custom(futago.MemberA, "meanwhile"))
	s.send("kept in the spool", futago.MemberB)
	s.free(futago.MemberB)
	s.awaitWord(futago.MemberA, futago.RedundancyFull)
	s.recorded(futago.MemberA, "kept in the spool")
	s.recorded(futago.MemberB, "k=meanwhile")
	// The stop itself is in the history of both.
	s.eventually("the report of the stop", func() error {
		return s.client(futago.MemberA, func(c *client.Client) error {
			p, err := c.Events(t.Context(), futago.EventQuery{Kinds: []futago.Kind{futago.KindInternal}})
			for _, e := range p.Events {
				if e.Trap.Severity == futago.SeverityCritical {
					return nil
				}
			}
			return errors.Join(errNotYet, err)
		})
	})
}

// TestManager_DiskFull takes the last byte from under the leader, with no
// min_free to warn it. What was acknowledged is on both afterwards.
func TestManager_DiskFull(t *testing.T) {
	s := smallPair(t, 0)
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				msg := fmt.Sprintf("w%d-%d", i, n)
				to := futago.MemberB
				if n%2 == 1 {
					to = futago.MemberA
				}
				if s.custom(to, msg) == nil {
					mu.Lock()
					acknowledged[msg] = true
					mu.Unlock()
				}
			}
		})
	}
	s.fill(futago.MemberB, 0)
	s.eventually("b stops", func() error {
		s.fill(futago.MemberB, 0)
		if ms, err := s.self(futago.MemberB); err != nil || ms.Local.State != string(futago.CodeStorageFull) {
			return fmt.Errorf("it is %s %s, %w", ms.Local.State, ms.Local.Detail, err)
		}
		return nil
	})
	st := s.awaitWord(futago.MemberA, futago.RedundancyNoSpare, "manager b does not take part")
	if st.Leader != futago.MemberA {
		t.Errorf("%q leads", st.Leader)
	}
	s.must(s.custom(futago.MemberA, "after"))
	close(stop)
	wg.Wait()
	s.free(futago.MemberB)
	st = s.awaitWord(futago.MemberA, futago.RedundancyFull)
	if st.Equality.State != "equal" {
		t.Errorf("the databases are %s", st.Equality.State)
	}
	acknowledged["after"] = true
	t.Logf("%d traps were acknowledged", len(acknowledged))
	for _, id := range []futago.MemberID{futago.MemberA, futago.MemberB} {
		s.eventually(fmt.Sprintf("everything acknowledged is on %s", id), func() error { return s.holdsAll(id, acknowledged) })
	}
}

// holdsAll looks for the messages of custom traps in a manager's history.
func (s *site) holdsAll(id futago.MemberID, want map[string]bool) error {
	return s.client(id, func(c *client.Client) error {
		have := map[string]bool{}
		q := futago.EventQuery{Limit: 1000, Kinds: []futago.Kind{futago.KindCustomTrap}}
		for {
			p, err := c.Events(s.t.Context(), q)
			if err != nil {
				return err
			}
			for _, e := range p.Events {
				have[e.Trap.Message] = true
			}
			if p.Next == 0 {
				break
			}
			q.Before = p.Next
		}
		for msg := range want {
			if !have["k="+msg] {
				return fmt.Errorf("%q is missing among %d", msg, len(have))
			}
		}
		return nil
	})
}
