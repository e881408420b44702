package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// A segment file is a header of 64 bytes and blocks. Numbers are little-endian,
// checksums CRC-32C.
//
//	segment header: magic (8), version (4), checksum of what follows (4),
//	    nonce (8), first position (8), identity (16), base (8), created (8)
//	block header: magic (4), checksum of what follows (4), nonce (8), length of
//	    the payload (4), checksum of the payload (4), first position (8), number
//	    of records (4), zero (4), watermark (8), watermark before (8)
//	record: length of raw (4), arrival (8), kind (1), transport (1), flags (1),
//	    port (2), address (0, 4 or 16), zone (1 and its length), raw
//
// The nonce is random for each segment. It keeps a sender from smuggling in
// something that looks like a block when damage is searched for the next one.
const (
	segmentMagic     = "FTGSPOOL"
	segmentVersion   = 1
	segmentHeaderLen = 64
	blockMagic       = 0x42475446 // "FTGB"
	blockHeaderLen   = 56
	recordLen        = 17 // without address, zone and raw
)

const (
	// MaxRaw is the longest message that the spool takes, in bytes.
	MaxRaw = 1 << 20
	// maxBlockRecords and blockTarget bound a block; one long message may make it larger.
	maxBlockRecords = 4096
	blockTarget     = 256 << 10
	maxPayload      = blockTarget + MaxRaw + 512
)

const (
	flagTruncated = 1 << iota
	flagAddr4
	flagAddr16
	flagZone
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errBlock = errors.New("not a valid block")

type segmentHeader struct {
	nonce   uint64
	first   uint64
	id      command.ID
	base    uint64
	created int64
}

func (h *segmentHeader) append(b []byte) []byte {
	le := binary.LittleEndian
	n := len(b)
	b = append(b, segmentMagic...)
	b = le.AppendUint32(b, segmentVersion)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, h.nonce)
	b = le.AppendUint64(b, h.first)
	b = append(b, h.id[:]...)
	b = le.AppendUint64(b, h.base)
	b = le.AppendUint64(b, uint64(h.created))
	le.PutUint32(b[n+12:], crc32.Checksum(b[n+16:], castagnoli))
	return b
}

// parseSegmentHeader returns CodeIncompatible for a newer version and errBlock
// for what is no header at all.
func parseSegmentHeader(b []byte) (segmentHeader, error) {
	le := binary.LittleEndian
	if len(b) < segmentHeaderLen || string(b[:8]) != segmentMagic {
		return segmentHeader{}, errBlock
	}
	if v := le.Uint32(b[8:]); v > segmentVersion && v < 1000 {
		return segmentHeader{}, futago.Errorf(futago.CodeIncompatible, "written in format %d, this version reads up to %d", v, segmentVersion).
			WithAction("run the version that wrote it, or a newer one")
	}
	if le.Uint32(b[12:]) != crc32.Checksum(b[16:segmentHeaderLen], castagnoli) {
		return segmentHeader{}, errBlock
	}
	return segmentHeader{
		nonce: le.Uint64(b[16:]), first: le.Uint64(b[24:]), id: command.ID(b[32:48]),
		base: le.Uint64(b[48:]), created: int64(le.Uint64(b[56:])),
	}, nil
}

type blockHeader struct {
	size      int // of the payload
	crc       uint32
	first     uint64
	count     int
	watermark int64 // valid after this block
	before    int64 // valid before it
}

func (h *blockHeader) last() uint64 { return h.first + uint64(h.count) - 1 }

// put writes the header to the first blockHeaderLen bytes of b.
func (h *blockHeader) put(b []byte, nonce uint64) {
	le := binary.LittleEndian
	le.PutUint32(b, blockMagic)
	le.PutUint64(b[8:], nonce)
	le.PutUint32(b[16:], uint32(h.size))
	le.PutUint32(b[20:], h.crc)
	le.PutUint64(b[24:], h.first)
	le.PutUint32(b[32:], uint32(h.count))
	le.PutUint32(b[36:], 0)
	le.PutUint64(b[40:], uint64(h.watermark))
	le.PutUint64(b[48:], uint64(h.before))
	le.PutUint32(b[4:], crc32.Checksum(b[8:blockHeaderLen], castagnoli))
}

func parseBlockHeader(b []byte, nonce uint64) (blockHeader, bool) {
	le := binary.LittleEndian
	if len(b) < blockHeaderLen || le.Uint32(b) != blockMagic || le.Uint64(b[8:]) != nonce ||
		le.Uint32(b[4:]) != crc32.Checksum(b[8:blockHeaderLen], castagnoli) {
		return blockHeader{}, false
	}
	h := blockHeader{
		size: int(le.Uint32(b[16:])), crc: le.Uint32(b[20:]), first: le.Uint64(b[24:]), count: int(le.Uint32(b[32:])),
		watermark: int64(le.Uint64(b[40:])), before: int64(le.Uint64(b[48:])),
	}
	ok := h.first > 0 && h.count > 0 && h.count <= maxBlockRecords && h.size <= maxPayload && h.size >= h.count*recordLen
	return h, ok
}

func recordSize(r *futago.Received) int {
	n := recordLen + len(r.Raw)
	a := r.Source.Addr()
	switch {
	case a.Is4():
		n += 4
	case a.IsValid():
		n += 16
		if z := len(a.Zone()); z > 0 {
			n += 1 + min(z, 255)
		}
	}
	return n
}

func appendRecord(b []byte, r *futago.Received) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(r.Raw)))
	b = le.AppendUint64(b, uint64(r.At))
	var flags byte
	if r.Truncated {
		flags |= flagTruncated
	}
	a := r.Source.Addr()
	zone := a.Zone()
	zone = zone[:min(len(zone), 255)]
	switch {
	case a.Is4():
		flags |= flagAddr4
	case a.IsValid():
		flags |= flagAddr16
		if zone != "" {
			flags |= flagZone
		}
	}
	b = append(b, byte(r.Kind), byte(r.Transport), flags)
	b = le.AppendUint16(b, r.Source.Port())
	switch {
	case flags&flagAddr4 != 0:
		x := a.As4()
		b = append(b, x[:]...)
	case flags&flagAddr16 != 0:
		x := a.As16()
		b = append(b, x[:]...)
		if zone != "" {
			b = append(append(b, byte(len(zone))), zone...)
		}
	}
	return append(b, r.Raw...)
}

// readRecord reads one record. Raw shares memory with b.
func readRecord(b []byte, r *futago.Received) (rest []byte, ok bool) {
	le := binary.LittleEndian
	if len(b) < recordLen {
		return nil, false
	}
	size := uint64(le.Uint32(b))
	r.At = int64(le.Uint64(b[4:]))
	r.Kind, r.Transport = futago.Kind(b[12]), futago.Transport(b[13])
	flags := b[14]
	port := le.Uint16(b[15:])
	b = b[recordLen:]
	r.Truncated = flags&flagTruncated != 0
	var a netip.Addr
	switch {
	case flags&flagAddr4 != 0 && len(b) >= 4:
		a, b = netip.AddrFrom4([4]byte(b)), b[4:]
	case flags&flagAddr16 != 0 && len(b) >= 16:
		a, b = netip.AddrFrom16([16]byte(b)), b[16:]
		if flags&flagZone != 0 {
			if len(b) == 0 || len(b) < 1+int(b[0]) {
				return nil, false
			}
			a, b = a.WithZone(string(b[1:1+int(b[0])])), b[1+int(b[0]):]
		}
	case flags&(flagAddr4|flagAddr16) != 0:
		return nil, false
	}
	r.Source = netip.AddrPortFrom(a, port)
	if size > uint64(len(b)) {
		return nil, false
	}
	r.Raw = b[:size:size]
	return b[size:], true
}

// readRecords appends the records from..to of a block to recs.
func readRecords(recs []futago.Received, h blockHeader, payload []byte, from, to uint64) ([]futago.Received, error) {
	for seq := h.first; seq <= min(h.last(), to); seq++ {
		r := futago.Received{Seq: seq}
		rest, ok := readRecord(payload, &r)
		if !ok {
			return recs, errBlock
		}
		payload = rest
		if seq >= from {
			recs = append(recs, r)
		}
	}
	return recs, nil
}
