package manager_test

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

// TestManager_AnotherCluster puts a manager of another cluster at a's address:
// both sides refuse each other, write it down, and b's status names it.
func TestManager_AnotherCluster(t *testing.T) {
	s := newPair(t)
	s.mustStop(futago.MemberA)
	other := newSite(t, cluster.ThirdVoteManager)
	other.hosts[futago.MemberA] = s.hosts[futago.MemberA]
	r := other.start(futago.MemberA)
	s.awaitWord(futago.MemberB, futago.RedundancyNoSpare, "manager a does not answer", "is not of this cluster")
	for name, log := range map[string]*logBuffer{"b": s.running[futago.MemberB].log, "the other cluster's a": r.log} {
		want := map[bool]string{true: "is not of this cluster", false: "member link refused"}[name == "b"]
		s.eventually(name+" writes it down", func() error {
			if !strings.Contains(log.String(), want) {
				return fmt.Errorf("no %q in the log", want)
			}
			return nil
		})
	}
	s.must(s.custom(futago.MemberB, "goes on"))
}

// TestManager_Copy starts a copy of a's directory on another host while a runs.
func TestManager_Copy(t *testing.T) {
	s := newPair(t)
	other := newSite(t, cluster.ThirdVoteManager)
	s.must(os.RemoveAll(other.dir(futago.MemberA)))
	s.mustStop(futago.MemberA) // a copy of files in use might be damaged
	s.must(os.CopyFS(other.dir(futago.MemberA), onlyFiles{os.DirFS(s.dir(futago.MemberA))}))
	s.start(futago.MemberA)
	s.awaitWord(futago.MemberB, futago.RedundancyFull)
	other.start(futago.MemberA)
	other.stopped(futago.MemberA, futago.CodeConflict, "is a copy", "join this host")
	s.awaitWord(futago.MemberB, futago.RedundancyFull)
	// Once the original is gone for good, the directory may be used.
	s.mustStop(futago.MemberA)
	other.mustStop(futago.MemberA)
	other.start(futago.MemberA)
	other.eventually("it starts", func() error {
		if ms, err := other.self(futago.MemberA); err != nil || ms.Local.State != "running" {
			return fmt.Errorf("it is %s, %w", ms.Local.State, err)
		}
		return nil
	})
}

// onlyFiles hides the local socket, which cannot be copied.
type onlyFiles struct{ fs.FS }

func (o onlyFiles) Open(name string) (fs.File, error) { return o.FS.Open(name) }

// ReadDir implements [fs.ReadDirFS].
func (o onlyFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(o.FS, name)
	return slices.DeleteFunc(list, func(e fs.DirEntry) bool { return e.Type()&fs.ModeSocket != 0 }), err
}
