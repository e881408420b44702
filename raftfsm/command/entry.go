package command

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/futago/futago"
)

// The form of an entry never changes, so that any version of Futago can check
// and name what any other version wrote:
//
//	byte 0      type
//	byte 1      version of the payload
//	byte 2      length n of what follows
//	n bytes     the oldest Futago version that can apply the entry, like "0.1.0"
//	…           payload
//	4 bytes     CRC-32C of everything before it, little-endian
//
// The checksum is here because raft-boltdb keeps none: a bit that flipped on
// the disk must be found, not applied.
const (
	headerSize  = 3
	trailerSize = 4
)

// MaxEntry is the largest entry that Encode makes and Decode takes, in bytes.
// A longer one would hold up heartbeats and is a fault of the proposer.
const MaxEntry = 64 << 20

// MaxTrapEncoded is the largest encoded trap that may stand in a batch, in bytes.
const MaxTrapEncoded = 16 << 20

type form struct {
	name    string
	version uint8
	since   string // Futago version that first applied this version of the payload
	empty   func() Proposal
}

// formOf describes the newest payload version of a type that this build knows.
func formOf(t Type) (form, bool) {
	switch t {
	case TypeTrapBatch:
		return form{"TrapBatch", 1, "0.1.0", nil}, true
	case TypePutIntakeSettings:
		return form{"PutIntakeSettings", 1, "0.1.0", func() Proposal { return new(PutIntakeSettings) }}, true
	case TypePutUser:
		return form{"PutUser", 1, "0.1.0", func() Proposal { return new(PutUser) }}, true
	case TypeDeleteUser:
		return form{"DeleteUser", 1, "0.1.0", func() Proposal { return new(DeleteUser) }}, true
	case TypePutToken:
		return form{"PutToken", 1, "0.1.0", func() Proposal { return new(PutToken) }}, true
	case TypeDeleteToken:
		return form{"DeleteToken", 1, "0.1.0", func() Proposal { return new(DeleteToken) }}, true
	case TypeReport:
		return form{"Report", 1, "0.1.0", func() Proposal { return new(Report) }}, true
	default:
		return form{}, false
	}
}

// String returns the name of the type, for messages and log dumps.
func (t Type) String() string {
	if f, ok := formOf(t); ok {
		return f.name
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode codes an entry for the log. Whatever it returns, Decode takes. It
// refuses, with CodeInvalid, an entry that no member could apply: a batch whose
// parts do not fit together, a date outside the years 0 to 9999, a secret that
// is not sealed, an entry over MaxEntry.
func Encode(e Entry) ([]byte, error) {
	f, ok := formOf(e.EntryType())
	if !ok {
		return nil, futago.Errorf(futago.CodeInternal, "an entry of %v cannot be encoded", e.EntryType())
	}
	return encode(f, e)
}

func encode(f form, e Entry) ([]byte, error) {
	var b []byte
	var err error
	if batch, ok := e.(*TrapBatch); ok {
		b = make([]byte, 0, batch.sizeHint())
		b = appendHeader(b, e.EntryType(), f)
		b, err = batch.append(b)
	} else {
		b = appendHeader(make([]byte, 0, 512), e.EntryType(), f)
		b, err = appendJSON(b, e)
	}
	if err != nil {
		return nil, err
	}
	if len(b)+trailerSize > MaxEntry {
		return nil, futago.Errorf(futago.CodeInvalid, "a %s of %d bytes is too large for the log", f.name, len(b))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func appendHeader(b []byte, t Type, f form) []byte {
	b = append(b, byte(t), f.version, byte(len(f.since)))
	return append(b, f.since...)
}

// appendJSON codes the entries that people should be able to read in a dump.
func appendJSON(b []byte, e Entry) ([]byte, error) {
	if p, ok := e.(*PutIntakeSettings); ok {
		for i := range p.Settings.SNMPUsers {
			u := &p.Settings.SNMPUsers[i]
			for _, s := range [...]futago.Secret{u.AuthPass, u.PrivPass} {
				if s != "" && !s.Sealed() {
					return nil, futago.Errorf(futago.CodeInvalid, "a password of SNMP user %q is not sealed", u.Name)
				}
			}
		}
	}
	j, err := json.Marshal(e)
	if err != nil {
		return nil, futago.Errorf(futago.CodeInvalid, "a %v has no JSON form", e.EntryType()).Wrap(err)
	}
	// Marshalling turns invalid UTF-8 into U+FFFD and calls text methods that may
	// be stricter on the way back; reading it once more settles what is proposed.
	if _, err := decodeJSON(e.EntryType(), j); err != nil {
		return nil, futago.Errorf(futago.CodeInvalid, "a %v cannot be read back", e.EntryType()).Wrap(err)
	}
	return append(b, j...), nil
}

// Info is what can be said about any entry, of this version or a later one.
type Info struct {
	Type    Type
	Version uint8
	// Needs is the oldest Futago version that can apply the entry.
	Needs string
	// Payload refers to the entry's bytes.
	Payload []byte
}

// Inspect checks an entry's checksum and splits it, without decoding the
// payload. It fails with CodeCorrupt.
func Inspect(b []byte) (Info, error) {
	if len(b) < headerSize+trailerSize || len(b) > MaxEntry {
		return Info{}, corrupt("a log entry has %d bytes", len(b))
	}
	body := b[:len(b)-trailerSize]
	want := binary.LittleEndian.Uint32(b[len(body):])
	if got := crc32.Checksum(body, castagnoli); got != want {
		return Info{}, corrupt("a log entry has checksum %08x and should have %08x", got, want)
	}
	n := int(body[2])
	if len(body) < headerSize+n {
		return Info{}, corrupt("a log entry is shorter than its header says")
	}
	return Info{
		Type: Type(body[0]), Version: body[1],
		Needs:   string(body[headerSize : headerSize+n]),
		Payload: body[headerSize+n:],
	}, nil
}

// Decode is the inverse of Encode. Byte slices of the result refer to b.
//
// It fails with CodeCorrupt when the checksum is wrong, and with
// CodeIncompatible when the entry is of a type or version that this build does
// not know, or a JSON entry has a field that it does not know: a member that
// skipped the field would silently store something else than its peer does, so
// a new field always comes with a new version of the payload.
func Decode(b []byte) (Entry, error) {
	in, err := Inspect(b)
	if err != nil {
		return nil, err
	}
	f, ok := formOf(in.Type)
	if !ok || in.Version > f.version || in.Version == 0 {
		return nil, incompatible(in)
	}
	if in.Type == TypeTrapBatch {
		return decodeBatch(in.Payload)
	}
	e, err := decodeJSON(in.Type, in.Payload)
	if err != nil {
		// The checksum was right, so this is what the proposer wrote.
		return nil, incompatible(in).Wrap(err)
	}
	return e, nil
}

func decodeJSON(t Type, payload []byte) (Proposal, error) {
	f, ok := formOf(t)
	if !ok || f.empty == nil {
		return nil, fmt.Errorf("%v has no JSON form", t)
	}
	e := f.empty()
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(e); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("there is more after the end of the %v", t)
	}
	toUTC(e)
	return e, nil
}

// toUTC makes equal instants equal in every member's time zone.
func toUTC(e Proposal) {
	e.Header().At = utc(e.Header().At)
	switch e := e.(type) {
	case *PutUser:
		e.User.CreatedAt = utc(e.User.CreatedAt)
	case *PutToken:
		e.Token.CreatedAt, e.Token.ExpiresAt = utc(e.Token.CreatedAt), utc(e.Token.ExpiresAt)
	}
}

// utc keeps a zero time zero in every field.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

func corrupt(format string, args ...any) *futago.Error {
	return futago.Errorf(futago.CodeCorrupt, format, args...)
}

func incompatible(in Info) *futago.Error {
	needs := in.Needs
	if needs == "" {
		needs = "a newer version"
	}
	return futago.Errorf(futago.CodeIncompatible,
		"the log holds an entry of type %d (%v) version %d, which this version of Futago cannot apply", uint8(in.Type), in.Type, in.Version).
		WithAction("install Futago %s or newer on this member and start it again; nothing is lost meanwhile", needs)
}
