package manager_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
)

// mark is in the text of the events of these tests, to find them in files.
const mark = "find-me-in-a-file"

// scar flips a bit in every occurrence of text in a file.
func scar(t *testing.T, path, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := 0; ; n++ {
		at := bytes.Index(b[i:], []byte(text))
		if at < 0 {
			break
		}
		i += at
		b[i+len(text)/2] ^= 4
	}
	if n == 0 {
		t.Fatalf("%s does not contain %q", path, text)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestManager_Damage damages one file of manager b while it is down. Each time
// b finds it, names it in its status, takes no part, and keeps receiving; a
// goes on and says what b says; and the advice in the message works.
func TestManager_Damage(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		words  []string
		// mend follows the advice; nil is to join anew.
		mend func(t *testing.T, dir string)
	}{
		{"log, a meta", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "raft.db"), int64(os.Getpagesize())+40)
		}, []string{"raft.db", "join"}, nil},
		{"log, entry", func(t *testing.T, dir string) {
			scar(t, filepath.Join(dir, "raft.db"), mark)
		}, []string{"raft.db", "join"}, nil},
		{"log, pages", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "raft.db")
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			for at := int64(2 * 4096); at < fi.Size(); at += 4096 {
				flip(t, path, at)      // page number
				flip(t, path, at+8)    // kind of page
				flip(t, path, at+10)   // number of elements
				flip(t, path, at+16+4) // first element
			}
		}, []string{"raft.db", "join"}, nil},
		{"log is gone", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "raft.db")); err != nil {
				t.Fatal(err)
			}
		}, []string{"raft.db", "join"}, nil},
		{"database, header", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "state.db"), 3)
		}, []string{"state.db", "move", "start again"}, moveDatabase},
		{"database is cut off", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "state.db"), 3*4096+100); err != nil {
				t.Fatal(err)
			}
		}, []string{"state.db", "move", "start again"}, moveDatabase},
		{"third vote", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "thirdvote.json"), 10)
		}, []string{"thirdvote.json", "join"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newPair(t)
			s.send(mark, futago.MemberA, futago.MemberB)
			s.recorded(futago.MemberB, mark)
			s.mustStop(futago.MemberB)
			test.damage(t, s.dir(futago.MemberB))
			s.start(futago.MemberB)
			s.stopped(futago.MemberB, futago.CodeCorrupt, test.words...)
			s.awaitWord(futago.MemberB, futago.RedundancyNoSpare, "manager b does not take part")
			st := s.awaitWord(futago.MemberA, futago.RedundancyNoSpare, "manager b does not take part", test.words[0])
			if st.Leader != futago.MemberA {
				t.Errorf("%s leads", st.Leader)
			}
			s.send("into the spool", futago.MemberB)
			s.eventually("the trap is in b's spool", func() error {
				if ms, err := s.self(futago.MemberB); err != nil || ms.Local.Spool.Depth == 0 {
					return errNotYet
				}
				return nil
			})
			s.mustStop(futago.MemberB)
			if test.mend != nil {
				test.mend(t, s.dir(futago.MemberB))
			} else {
				s.must(os.Rename(s.dir(futago.MemberB), s.dir(futago.MemberB)+".damaged"))
				s.join(futago.MemberA, futago.MemberB)
				// The spool may be taken along: it is not the directory's.
				s.must(os.Rename(s.dir(futago.MemberB)+".damaged/spool", s.dir(futago.MemberB)+"/spool"))
			}
			s.start(futago.MemberB)
			s.awaitWord(futago.MemberA, futago.RedundancyFull)
			s.recorded(futago.MemberB, mark)
			s.recorded(futago.MemberA, "into the spool")
		})
	}
}

// moveDatabase takes the database away: with the whole log there, it is made again.
func moveDatabase(t *testing.T, dir string) {
	t.Helper()
	for _, f := range []string{"state.db", "state.db-wal", "state.db-shm"} {
		if err := os.Rename(filepath.Join(dir, f), filepath.Join(dir, f+".damaged")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// TestManager_DamageMended damages what a member can do without, or make anew.
func TestManager_DamageMended(t *testing.T) {
	s := newPair(t)
	s.send(mark, futago.MemberA, futago.MemberB)
	s.recorded(futago.MemberB, mark)
	for name, damage := range map[string]func(dir string){
		"search index": func(dir string) { flip(t, filepath.Join(dir, "search.db"), 3) },
		"write-ahead log": func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, "state.db-wal"), []byte("nonsense"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.mustStop(futago.MemberB)
			damage(s.dir(futago.MemberB))
			r := s.start(futago.MemberB)
			s.awaitWord(futago.MemberA, futago.RedundancyFull)
			s.recorded(futago.MemberB, mark)
			if name == "search index" && !strings.Contains(r.log.String(), "search index") {
				t.Errorf("the log does not name the file")
			}
		})
	}
}

var errNotYet = errors.New("not yet")

// TestManager_DamagedEvent flips a bit in the text of one event in b's database:
// the event is reported as damaged, and never shown as something else.
func TestManager_DamagedEvent(t *testing.T) {
	s := newPair(t)
	s.send(mark, futago.MemberA, futago.MemberB)
	e := s.recorded(futago.MemberB, mark)
	s.mustStop(futago.MemberB)
	scar(t, filepath.Join(s.dir(futago.MemberB), "state.db"), mark)
	s.start(futago.MemberB)
	s.eventually("b reads its history again", func() error {
		return s.client(futago.MemberB, func(c *client.Client) error {
			var got futago.Event
			err := c.Get(t.Context(), client.EventsPath+"/"+strconv.FormatUint(e.ID, 10), nil, &got)
			if futago.CodeOf(err) == futago.CodeUnavailable {
				return err
			}
			if err == nil {
				t.Errorf("the event is shown as %q", got.Trap.Message)
			}
			return nil
		})
	})
	// a has the right one.
	s.recorded(futago.MemberA, mark)
}
