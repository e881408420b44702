package raftfsm_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
)

// TestOpen_FilesOfTwoHistories takes a file away, or puts an older one back,
// after a snapshot: what is left must not be gone on with.
func TestOpen_FilesOfTwoHistories(t *testing.T) {
	remove := func(t *testing.T, dir string, names ...string) {
		t.Helper()
		for _, n := range names {
			if err := os.RemoveAll(filepath.Join(dir, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		word  string
	}{
		{"no database", func(t *testing.T, dir string) { remove(t, dir, "state.db", "state.db-wal", "state.db-shm") }, "state.db has applied 0"},
		{"no log", func(t *testing.T, dir string) { remove(t, dir, "raft.db") }, "raft.db is empty"},
		{"no log and no snapshot", func(t *testing.T, dir string) { remove(t, dir, "raft.db", "snapshots") }, "raft.db is empty"},
		{"neither database nor snapshot", func(t *testing.T, dir string) {
			remove(t, dir, "snapshots", "state.db", "state.db-wal", "state.db-shm")
		}, "raft.db begins at entry"},
		{"damaged snapshot", func(t *testing.T, dir string) {
			names, err := filepath.Glob(filepath.Join(dir, "snapshots", "*"))
			if err != nil || len(names) != 1 {
				t.Fatal(names, err)
			}
			b, err := os.ReadFile(names[0])
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/3] ^= 1
			if err := os.WriteFile(names[0], b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, ".snapshot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, registertest.New())
			a := r.start(futago.MemberA)
			for i := range byte(20) {
				r.propose(a, user(i, "u"+string('a'+rune(i))))
			}
			if err := a.node.CompactForTest(1, 0); err != nil {
				t.Fatal(err)
			}
			r.propose(a, user(100, "after"))
			r.stop(futago.MemberA)
			test.spoil(t, r.dirs[futago.MemberA])
			m, err := r.open(futago.MemberA)
			if err == nil {
				r.members[futago.MemberA] = m
			}
			if futago.CodeOf(err) != futago.CodeCorrupt || !strings.Contains(err.Error(), test.word) || !strings.Contains(err.Error(), "join") {
				t.Errorf("it starts with %v", err)
			}
		})
	}
}

func TestCheckLog(t *testing.T) {
	r := newRig(t, registertest.New())
	a := r.start(futago.MemberA)
	for i := range byte(20) {
		r.propose(a, user(i, "u"+string('a'+rune(i))))
	}
	r.stop(futago.MemberA)
	dir := r.dirs[futago.MemberA]
	if first, last, err := raftfsm.CheckLog(dir); err != nil || first != 1 || last < 20 {
		t.Errorf("entries %d to %d, %v", first, last, err)
	}
	path := filepath.Join(dir, "raft.db")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := bytes.Index(b, []byte(`"uk"`)); i >= 0; i = bytes.Index(b, []byte(`"uk"`)) {
		b[i+1] ^= 1
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := raftfsm.CheckLog(dir); futago.CodeOf(err) != futago.CodeCorrupt || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged entry: %v", err)
	}
	if first, last, err := raftfsm.CheckLog(t.TempDir()); err != nil || first != 0 || last != 0 {
		t.Errorf("no log: %d to %d, %v", first, last, err)
	}
}
