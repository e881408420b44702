package search

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A segment is stored as blocks of terms in ascending order with their posting
// lists. Within a block, a term leaves out what it shares with the one before.
//
//	entry = uvarint shared, uvarint len(rest), rest, uvarint len(postings), postings
//	block = entry..., CRC-32C over segment number and entries
const blockBytes = 4096

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errBlock   = errors.New("damaged block")
)

func blockSum(seg uint64, entries []byte) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], seg)
	return crc32.Update(crc32.Checksum(b[:], castagnoli), castagnoli, entries)
}

// blockWriter cuts the terms of a segment into blocks.
type blockWriter struct {
	seg   uint64
	emit  func(first, block []byte) error
	first []byte
	prev  []byte
	buf   []byte
	list  []byte
}

func (w *blockWriter) add(term string, offs []uint16) error {
	w.list = appendPostings(w.list[:0], offs)
	if len(w.buf) > 0 && len(w.buf)+len(term)+len(w.list) > blockBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	shared := 0
	if len(w.buf) == 0 {
		w.first = append(w.first[:0], term...)
	} else {
		for shared < len(term) && shared < len(w.prev) && term[shared] == w.prev[shared] {
			shared++
		}
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(shared))
	w.buf = binary.AppendUvarint(w.buf, uint64(len(term)-shared))
	w.buf = append(w.buf, term[shared:]...)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(w.list)))
	w.buf = append(w.buf, w.list...)
	w.prev = append(w.prev[:0], term...)
	return nil
}

func (w *blockWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	w.buf = binary.LittleEndian.AppendUint32(w.buf, blockSum(w.seg, w.buf))
	err := w.emit(w.first, w.buf)
	w.buf = w.buf[:0]
	return err
}

// readBlock visits the entries of a block until visit returns false. The
// slices are valid during the call alone.
func readBlock(seg uint64, b []byte, visit func(term, postings []byte) (bool, error)) error {
	if len(b) < 4 {
		return errBlock
	}
	entries := b[:len(b)-4]
	if blockSum(seg, entries) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return errBlock
	}
	var term []byte
	for len(entries) > 0 {
		shared, n1 := binary.Uvarint(entries)
		if n1 <= 0 || shared > uint64(len(term)) {
			return errBlock
		}
		rest, tail, ok := cut(entries[n1:])
		if !ok {
			return errBlock
		}
		list, tail, ok := cut(tail)
		if !ok {
			return errBlock
		}
		term = append(term[:shared], rest...)
		if more, err := visit(term, list); err != nil || !more {
			return err
		}
		entries = tail
	}
	return nil
}

// cut takes a length and that many bytes off b.
func cut(b []byte) (head, tail []byte, ok bool) {
	l, n := binary.Uvarint(b)
	if n <= 0 || l > uint64(len(b)-n) {
		return nil, nil, false
	}
	b = b[n:]
	return b[:l], b[l:], true
}

// span is a range of terms: lo ≤ term < hi. With hi nil it is lo alone.
type span struct{ lo, hi []byte }

func (s span) has(term []byte) bool {
	if s.hi == nil {
		return bytes.Equal(term, s.lo)
	}
	return bytes.Compare(term, s.lo) >= 0 && bytes.Compare(term, s.hi) < 0
}

// past says that neither term nor what follows it is in the span.
func (s span) past(term []byte) bool {
	if s.hi == nil {
		return bytes.Compare(term, s.lo) > 0
	}
	return bytes.Compare(term, s.hi) >= 0
}
