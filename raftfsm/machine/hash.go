package machine

import (
	"crypto/sha256"
	"encoding/binary"
	"sort"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/dedup"
	"github.com/futago/futago/store"
)

// ringSize is how many entries back HashAt reaches.
const ringSize = 8192

// The running hash after an entry is the SHA-256 of the hash before it, the
// entry's index and term (8 bytes each, little-endian), and the decisions that
// applying it came to, in the forms below. Texts for people are left out, so
// that members of different versions agree.
const (
	decidedEvent     = 1 // a new event: all of its row
	decidedCopy      = 2 // a copy counted for an event
	decidedBatch     = 3 // end of a batch: its answer and the watermark
	decidedProposal  = 4 // a settings entry: its answer and, if it took effect, itself
	decidedRepeat    = 5 // a settings entry seen before
	decidedWatermark = 1 << 0
	decidedNeedBody  = 1 << 1
	decidedGap       = 1 << 2
	decidedStale     = 1 << 3
)

// chain starts the bytes to be hashed for an entry.
func chain(b []byte, before *[32]byte, e *Entry) []byte {
	b = append(b[:0], before[:]...)
	b = binary.LittleEndian.AppendUint64(b, e.Index)
	return binary.LittleEndian.AppendUint64(b, e.Term)
}

func appendEvent(b []byte, e *store.EventRow) []byte {
	b = append(b, decidedEvent, byte(e.Kind), byte(e.Severity), byte(e.Reason))
	b = binary.AppendUvarint(b, e.ID)
	b = binary.AppendVarint(b, e.At)
	b = append(b, e.Key[:]...)
	b = appendBytes(b, e.Source.AsSlice())
	for m := range e.Count {
		b = binary.AppendUvarint(b, e.Count[m])
	}
	return appendBytes(b, e.Trap)
}

func appendCopy(b []byte, g *dedup.Group, slot int, at int64, why futago.Reason) []byte {
	b = append(b, decidedCopy, byte(slot), byte(why))
	b = binary.AppendUvarint(b, g.ID)
	b = binary.AppendUvarint(b, g.Count[slot])
	return binary.LittleEndian.AppendUint64(b, uint64(at))
}

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

type indexHash struct {
	index uint64
	hash  [32]byte
}

func sum(e *Entry, b []byte) indexHash { return indexHash{e.Index, sha256.Sum256(b)} }

// ring holds the hashes after the last entries.
type ring struct {
	list []indexHash
	from int // the oldest, once the list is full
}

func (r *ring) reset(e indexHash) { r.list, r.from = append(r.list[:0], e), 0 }

func (r *ring) add(e indexHash) {
	if len(r.list) < ringSize {
		r.list = append(r.list, e)
		return
	}
	r.list[r.from] = e
	r.from = (r.from + 1) % ringSize
}

// at returns the hash after the last entry up to index; the caller makes sure
// that index is not in the future.
func (r *ring) at(index uint64) ([32]byte, bool) {
	n := len(r.list)
	i := sort.Search(n, func(i int) bool { return r.list[(r.from+i)%n].index > index })
	if i == 0 {
		return [32]byte{}, false
	}
	return r.list[(r.from+i-1)%n].hash, true
}
