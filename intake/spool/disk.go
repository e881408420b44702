package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/futago/futago"
)

// readChunk is how much is read from a file at once; a block always fits.
const readChunk = 4 << 20

// diskReader reads blocks in order from the files. Guarded by Spool.readMu.
type diskReader struct {
	g      *segment
	f      *os.File
	nonce  uint64
	next   uint64 // position behind the last block given out
	off    int64  // of the next block
	buf    []byte // the file from bufOff on; blocks given out share it
	bufOff int64
	fails  int // reads that failed in a row
}

func (d *diskReader) close() {
	if d.f != nil {
		_ = d.f.Close()
	}
	*d = diskReader{}
}

// readDisk takes blocks from the files until the batch is complete.
func (s *Spool) readDisk(t *taker, from uint64) error {
	d := &s.reader
	if d.f != nil && d.next != from {
		d.close()
	}
	pos := from
	for pos <= t.to {
		g, size, next := s.segmentAt(pos)
		if g == nil {
			return nil
		}
		if d.g != g {
			d.close()
			if err := s.openSegment(g, size); err != nil {
				return err
			}
		}
		c, n, err := s.nextBlock(size, next, pos)
		if err != nil {
			if len(t.b.Records) > 0 {
				return nil
			}
			return err
		}
		if n == 0 { // nothing more in this file
			if next == 0 {
				return nil
			}
			pos = max(pos, next)
			continue
		}
		if c.last() < pos {
			d.off += n
			continue
		}
		more, err := t.take(c)
		if err != nil {
			return err
		}
		if t.b.Next() > c.last() {
			d.off += n
		}
		d.next = t.b.Next()
		if !more {
			return nil
		}
		pos = d.next
	}
	return nil
}

// segmentAt returns the file that holds a position, its valid size, and the
// first position of the file after it (0: none).
func (s *Spool) segmentAt(pos uint64) (g *segment, size int64, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, g := range slices.Backward(s.segments) {
		if g.first <= pos || i == 0 {
			if i+1 < len(s.segments) {
				next = s.segments[i+1].first
			}
			return g, g.size, next
		}
	}
	return nil, 0, 0
}

func (s *Spool) openSegment(g *segment, size int64) error {
	d := &s.reader
	f, err := os.Open(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		// Deleted because it was acknowledged, or by somebody else.
		d.g, d.off = g, size
		s.damage(g, 0, "the file is missing")
		return nil
	}
	if err != nil {
		return futago.Errorf(futago.CodeInternal, "spool file %s cannot be read", g.path).Wrap(err)
	}
	d.g, d.f, d.off = g, f, segmentHeaderLen
	if d.nonce = g.nonce; d.nonce != 0 {
		return nil
	}
	b, err := d.read(0, min(size, readChunk))
	if err != nil {
		d.close()
		return futago.Errorf(futago.CodeInternal, "spool file %s cannot be read", g.path).Wrap(err)
	}
	h, err := parseSegmentHeader(b)
	switch {
	case err == nil && h.first == g.first:
		d.nonce = h.nonce
	case futago.CodeOf(err) == futago.CodeIncompatible:
		d.close()
		return fmt.Errorf("%s: %w", g.path, err)
	default:
		s.damage(g, 0, "its header is damaged")
		if d.nonce = adoptNonce(b, g.first); d.nonce == 0 {
			d.off = size
		}
	}
	return nil
}

// read returns n bytes at off, less at the end of the file. A sector that
// cannot be read after several tries comes back as zeros, which no checksum
// accepts, so that the rest of the file is not lost with it.
func (d *diskReader) read(off, n int64) ([]byte, error) {
	b := make([]byte, max(n, 0))
	m, err := d.f.ReadAt(b, off)
	if err == nil || errors.Is(err, io.EOF) {
		d.fails = 0
		return b[:m], nil
	}
	if d.fails++; d.fails < 5 {
		return nil, err
	}
	const sector = 4096
	for i := int64(0); i < n; i += sector {
		piece := b[i:min(i+sector, n)]
		if _, err := d.f.ReadAt(piece, off+i); err != nil {
			clear(piece)
		}
	}
	return b, nil
}

// at returns the file from off on: a whole block if there is one.
func (d *diskReader) at(off, size int64) ([]byte, error) {
	if rel := off - d.bufOff; d.buf != nil && rel >= 0 && rel < int64(len(d.buf)) {
		b := d.buf[rel:]
		if h, ok := parseBlockHeader(b, d.nonce); ok && len(b) >= blockHeaderLen+h.size {
			return b, nil
		}
	}
	b, err := d.read(off, min(size-off, readChunk))
	if err != nil {
		return nil, err
	}
	d.buf, d.bufOff = b, off
	return b, nil
}

// nextBlock returns the block at the reader's place and its length, 0 at the
// end of the file. Damage is reported and passed over.
func (s *Spool) nextBlock(size int64, next, pos uint64) (cachedBlock, int64, error) {
	d := &s.reader
	if d.off >= size {
		return cachedBlock{}, 0, nil
	}
	b, err := d.at(d.off, size)
	if err != nil {
		return cachedBlock{}, 0, futago.Errorf(futago.CodeInternal, "spool file %s cannot be read", d.g.path).Wrap(err).
			WithAction("check the disk")
	}
	if c, n, ok := parseBlock(b, d.nonce); ok {
		return c, n, nil
	}
	if next != 0 && next <= pos {
		d.off = size // a torn end behind which nothing is missing
		return cachedBlock{}, 0, nil
	}
	rest, err := d.read(d.off, size-d.off)
	if err != nil {
		return cachedBlock{}, 0, err
	}
	bad := d.off
	i := findBlock(rest[min(1, len(rest)):], d.nonce, 0)
	if i < 0 {
		s.damage(d.g, bad, "nothing from here on can be read")
		d.off = size
		return cachedBlock{}, 0, nil
	}
	d.off += 1 + i
	d.buf, d.bufOff = rest[1+i:], d.off
	c, n, _ := parseBlock(d.buf, d.nonce)
	if c.first > s.Acked()+1 { // else nothing that is still needed was in it
		s.damage(d.g, bad, fmt.Sprintf("a block fails its checksum; the next readable record is %d", c.first))
	}
	return c, n, nil
}

// damage reports a damaged place, once.
func (s *Spool) damage(g *segment, off int64, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.damage[off] || g.last <= s.acked && g != s.active {
		return
	}
	if g.damage == nil {
		g.damage = map[int64]bool{}
	}
	g.damage[off] = true
	s.stat.damaged++
	err := futago.Errorf(futago.CodeCorrupt, "spool file %s, offset %d: %s", g.path, off, what).
		WithAction("check the disk; the rest of the file is still taken over, then it is kept as %s%s", g.path, corruptSuffix)
	s.stat.lastError = err
	s.log.Error("the spool is damaged", "error", err, "file", g.path, "offset", off)
	s.bg.report("spool-damage", futago.SeverityCritical, err.Error())
}
