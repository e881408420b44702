package snmptrap

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// DefaultEnterprise is the number in the engine id. Futago has none of its own,
// so it is the one that RFC 5612 sets aside. Engine ids need to be unique among
// those that talk to each other, which the rest of the id takes care of.
const DefaultEnterprise = 32473

// timeWindow is how far an authenticated message's engine time may be from ours
// (RFC 3414 section 2.2.3).
const timeWindow = 150

// EngineID makes the engine id of a member: the enterprise number, the mark for
// octets of the owner's choice (RFC 3411, SnmpEngineID) and the start of a
// digest over cluster and member. It stays the same for the life of a cluster.
func EngineID(enterprise uint32, cluster []byte, member futago.MemberID) []byte {
	id := binary.BigEndian.AppendUint32(nil, enterprise|1<<31)
	id = append(id, 5)
	sum := sha256.Sum256(fmt.Appendf(nil, "futago snmp engine %d:%s%s", len(cluster), cluster, member))
	return append(id, sum[:12]...)
}

// Engine is the authoritative engine of RFC 3414 that informs of version 3 are
// addressed to. Its methods may be called from any goroutine.
type Engine struct {
	id      []byte
	boots   uint32
	started time.Time
	salt    atomic.Uint64
	// faults counts the reports of each kind, by fault (RFC 3414 section 5).
	faults [faultDecryption + 1]atomic.Uint32
}

// engineFile is the content of the boots file.
type engineFile struct {
	EngineID string `json:"engine_id"` // hexadecimal
	Boots    uint32 `json:"boots"`
}

// OpenEngine starts an engine: it raises the boots counter in the file at path
// and writes it back before anything is answered with it. When the file is
// missing, damaged or that of another engine, the counter starts from the
// minutes since 1970, which is beyond any that one start a minute could
// have reached: senders refuse an engine whose boots went back. log must not be nil.
func OpenEngine(path string, id []byte, log *slog.Logger) (*Engine, error) {
	if len(id) < 5 || len(id) > maxEngineID {
		return nil, futago.Errorf(futago.CodeInvalid, "engine id has %d bytes, not 5 to %d", len(id), maxEngineID)
	}
	now := time.Now()
	f := engineFile{EngineID: fmt.Sprintf("%x", id), Boots: uint32(now.Unix() / 60)}
	b, err := atomicfile.ReadSummed(path)
	var before engineFile
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err == nil:
		if err := json.Unmarshal(b, &before); err != nil || before.EngineID != f.EngineID {
			log.Warn("SNMP engine file is not of this engine; boots start anew", "file", path, "boots", f.Boots)
			break
		}
		f.Boots = before.Boots
		if f.Boots < math.MaxInt32 { // there it stays: RFC 3414 section 2.2.2
			f.Boots++
		}
	case futago.CodeOf(err) == futago.CodeCorrupt:
		log.Warn("SNMP engine file is damaged; boots start anew", "file", path, "boots", f.Boots, "error", err)
	default:
		return nil, fmt.Errorf("SNMP engine boots: %w", err)
	}
	if b, err = json.Marshal(f); err != nil {
		return nil, fmt.Errorf("SNMP engine boots: %w", err)
	}
	if err := atomicfile.WriteSummed(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("SNMP engine boots: %w", err)
	}
	e := &Engine{id: id, boots: f.Boots, started: now}
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails
	e.salt.Store(binary.BigEndian.Uint64(seed[:]))
	return e, nil
}

// ID returns the engine id; it must not be changed.
func (e *Engine) ID() []byte { return e.id }

// Boots returns how often the engine has started.
func (e *Engine) Boots() uint32 { return e.boots }

// Time returns the seconds since the start on the monotonic clock.
func (e *Engine) Time() uint32 { return uint32(time.Since(e.started) / time.Second) }

// inWindow reports whether an authenticated message is timely (RFC 3414 section
// 3.2 step 7a).
func (e *Engine) inWindow(m *message) bool {
	if e.boots == math.MaxInt32 || m.boots != int64(e.boots) {
		return false
	}
	d := m.time - int64(e.Time())
	return d >= -timeWindow && d <= timeWindow
}

// nextSalt returns privacy parameters that this engine never used before.
func (e *Engine) nextSalt(p *privProtocol) []byte {
	n := e.salt.Add(1)
	if p.aes {
		return binary.BigEndian.AppendUint64(nil, n) // RFC 3826 section 3.1.2.1
	}
	b := binary.BigEndian.AppendUint32(nil, e.boots) // RFC 3414 section 8.1.1.1
	return binary.BigEndian.AppendUint32(b, uint32(n))
}
