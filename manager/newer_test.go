package manager_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/futago/futago"
)

// TestManager_NewerDatabase starts b on a database that a newer version wrote.
func TestManager_NewerDatabase(t *testing.T) {
	s := newPair(t)
	s.mustStop(futago.MemberB)
	f, err := os.OpenFile(filepath.Join(s.dir(futago.MemberB), "state.db"), os.O_RDWR, 0)
	s.must(err)
	_, err = f.WriteAt(binary.BigEndian.AppendUint32(nil, 99), 60) // SQLite's user_version
	s.must(err)
	s.must(f.Close())
	s.start(futago.MemberB)
	s.stopped(futago.MemberB, futago.CodeIncompatible, "state.db", "99")
	s.awaitWord(futago.MemberA, futago.RedundancyNoSpare, "manager b does not take part")
	s.must(s.custom(futago.MemberA, "goes on"))
}

// TestManager_NewerEntry puts an entry into both logs that only a newer version
// knows. Both stop and name that version; what they receive waits in the spools.
func TestManager_NewerEntry(t *testing.T) {
	s := newPair(t)
	s.send("before", futago.MemberA)
	s.recorded(futago.MemberB, "before")
	s.mustStop(futago.MemberB)
	s.mustStop(futago.MemberA)
	// Type 200, version 1, needs 9.9.0 (see package command).
	body := append([]byte{200, 1, 5}, "9.9.0{}"...)
	entry := binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	for _, id := range []futago.MemberID{futago.MemberA, futago.MemberB} {
		db, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(s.dir(id), "raft.db"), MsgpackUseNewTimeFormat: true})
		s.must(err)
		last, err := db.LastIndex()
		s.must(err)
		term, err := db.GetUint64([]byte("CurrentTerm"))
		s.must(err)
		s.must(db.StoreLog(&raft.Log{Index: last + 1, Term: term, Type: raft.LogCommand, Data: entry}))
		s.must(db.Close())
	}
	for _, id := range []futago.MemberID{futago.MemberA, futago.MemberB} {
		s.start(id)
	}
	for _, id := range []futago.MemberID{futago.MemberA, futago.MemberB} {
		s.stopped(id, futago.CodeIncompatible, "install Futago 9.9.0 or newer")
	}
	s.awaitWord(futago.MemberA, futago.RedundancyStoppedSafe, "install Futago 9.9.0")
	s.send("after", futago.MemberA)
	s.eventually("the trap is in a's spool", func() error {
		if ms, err := s.self(futago.MemberA); err != nil || ms.Local.Spool.Depth == 0 {
			return errNotYet
		}
		return nil
	})
}
