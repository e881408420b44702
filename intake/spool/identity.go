package spool

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
	"github.com/futago/futago/raftfsm/command"
)

// An epoch is a run of positions under one identity: those above Base, up to
// the Base of the next epoch.
type epoch struct {
	ID   command.ID `json:"id"`
	Base uint64     `json:"base"`
}

type epochs []epoch

// at returns the epoch of a position and its last position (0: no end yet).
func (es epochs) at(pos uint64) (e epoch, end uint64) {
	i := max(sort.Search(len(es), func(i int) bool { return es[i].Base >= pos })-1, 0)
	if i+1 < len(es) {
		end = es[i+1].Base
	}
	return es[i], end
}

// add puts an epoch in its place. One with the same base had no records and is replaced.
func (es epochs) add(e epoch) epochs {
	i := sort.Search(len(es), func(i int) bool { return es[i].Base >= e.Base })
	if i < len(es) && es[i].Base == e.Base {
		out := append(epochs(nil), es...)
		out[i] = e
		return out
	}
	out := append(epochs(nil), es[:i]...)
	return append(append(out, e), es[i:]...)
}

// prune drops epochs all of whose records are acknowledged, except the newest.
func (es epochs) prune(acked uint64) epochs {
	for len(es) > 1 && es[1].Base <= acked {
		es = es[1:]
	}
	return es
}

func newID() (id command.ID) {
	_, _ = rand.Read(id[:]) // never fails (Go 1.24)
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func newNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// The identity file is one line with a version and a checksum, then JSON.
const (
	identityName    = "identity"
	identityVersion = 1
	identityHead    = "futago-spool %d crc32c=%08x\n"
)

type identityFile struct {
	Epochs epochs `json:"epochs"`
}

// loadEpochs returns nil when there is no file, CodeCorrupt when it cannot be read.
func loadEpochs(dir string) (epochs, error) {
	name := filepath.Join(dir, identityName)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, futago.Errorf(futago.CodeInternal, "spool identity cannot be read").Wrap(err)
	}
	head, body, _ := bytes.Cut(b, []byte("\n"))
	var version int
	var sum uint32
	if n, _ := fmt.Sscanf(string(head), "futago-spool %d crc32c=%x", &version, &sum); n < 1 {
		return nil, futago.Errorf(futago.CodeCorrupt, "%s: first line is damaged", name)
	}
	if version > identityVersion {
		return nil, futago.Errorf(futago.CodeIncompatible, "%s was written in format %d, this version reads up to %d", name, version, identityVersion).
			WithAction("run the version that wrote it, or a newer one")
	}
	if sum != crc32.Checksum(body, castagnoli) {
		return nil, futago.Errorf(futago.CodeCorrupt, "%s: checksum differs", name)
	}
	var f identityFile
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, futago.Errorf(futago.CodeCorrupt, "%s cannot be read", name).Wrap(err)
	}
	if !sort.SliceIsSorted(f.Epochs, func(i, j int) bool { return f.Epochs[i].Base < f.Epochs[j].Base }) {
		return nil, futago.Errorf(futago.CodeCorrupt, "%s: identities are out of order", name)
	}
	return f.Epochs, nil
}

// saveEpochs replaces the identity file and flushes it: no record may follow
// under an identity that a power failure could take back.
func saveEpochs(dir string, es epochs) error {
	body, err := json.MarshalIndent(identityFile{Epochs: es}, "", "  ")
	if err != nil {
		return err
	}
	b := fmt.Appendf(nil, identityHead, identityVersion, crc32.Checksum(body, castagnoli))
	return atomicfile.Write(filepath.Join(dir, identityName), append(b, body...), 0o600)
}

// lockDir takes the directory for this process; the lock ends with it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, futago.Errorf(futago.CodeConflict, "spool %s is in use by another process", dir).
				WithAction("stop the other manager, or give this one a data directory of its own")
		}
		return nil, err
	}
	return f, nil
}

// ackFile holds the acknowledged position. It is written lazily and in place,
// into two slots by turns: an older value only means that some records are
// proposed again, which the state machine knows to ignore.
type ackFile struct {
	f    *os.File
	turn int64
	pos  uint64 // as written
}

const (
	ackName     = "acked"
	ackSlot     = 512
	ackSlotUsed = 16
)

func openAckFile(dir string) (*ackFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, ackName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	a := &ackFile{f: f}
	for slot := range int64(2) {
		var b [ackSlotUsed]byte
		if _, err := f.ReadAt(b[:], slot*ackSlot); err != nil {
			continue // never written, or cut: the other slot counts
		}
		if binary.LittleEndian.Uint32(b[12:]) != crc32.Checksum(b[:12], castagnoli) {
			continue
		}
		if pos := binary.LittleEndian.Uint64(b[:]); pos >= a.pos {
			a.pos, a.turn = pos, slot+1
		}
	}
	return a, nil
}

func (a *ackFile) write(pos uint64) error {
	if pos == a.pos {
		return nil
	}
	var b [ackSlotUsed]byte
	binary.LittleEndian.PutUint64(b[:], pos)
	copy(b[8:], "ack1")
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[:12], castagnoli))
	if _, err := a.f.WriteAt(b[:], a.turn%2*ackSlot); err != nil {
		return err
	}
	a.turn++
	a.pos = pos
	return nil
}
