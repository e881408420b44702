package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
)

// The layout of a bbolt file, as far as checkBolt reads it: pages of one size,
// each with a header; the first two are metas, the newer of which counts.
const (
	boltMagic, boltVersion = 0xED0CDAED, 2

	boltHeader = 16     // id 8, flags 2, count 2, overflow 4
	boltMeta   = 56 + 8 // and its checksum
	boltElem   = 16     // of a branch: position 4, key size 4, page 8; of a leaf: flags 4, position 4, key size 4, value size 4

	boltBranch, boltLeaf = 0x01, 0x02

	boltDepth = 64 // deeper than any tree of 2^64 pages
)

// checkBolt walks over the pages of a bbolt file and proves that the tree is
// whole, before bbolt does: bbolt walks over it too when it opens the file, in a
// goroutine of its own, and ends the process when it finds damage. The content
// of the entries is not looked at; they have checksums of their own.
//
// One damaged meta is damage, though bbolt would go on with the other: that is
// the state of one transaction earlier, with a vote or an entry less.
func checkBolt(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	w := boltWalk{f: f}
	if err := w.metas(); err != nil {
		return err
	}
	return w.page(w.root, 0)
}

// boltWalk is one check under way.
type boltWalk struct {
	f    io.ReaderAt
	size uint64 // of a page
	root uint64 // the page of the root bucket
	high uint64 // the first page that is not used yet
	seen []uint64
}

// metas reads both metas and takes the newer one.
func (w *boltWalk) metas() error {
	var newest uint64
	at := int64(0)
	for i := range 2 {
		var b [boltHeader + boltMeta]byte
		if _, err := w.f.ReadAt(b[:], at); err != nil {
			return fmt.Errorf("meta %d: %w", i, err)
		}
		m := b[boltHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(m[:boltMeta-8]) // never fails
		size := binary.LittleEndian.Uint32(m[8:])
		if binary.LittleEndian.Uint32(m) != boltMagic || binary.LittleEndian.Uint32(m[4:]) != boltVersion ||
			sum.Sum64() != binary.LittleEndian.Uint64(m[boltMeta-8:]) || size < 512 {
			return fmt.Errorf("meta %d fails its checksum", i)
		}
		if tx := binary.LittleEndian.Uint64(m[48:]); i == 0 || tx > newest {
			newest = tx
			w.root, w.high = binary.LittleEndian.Uint64(m[16:]), binary.LittleEndian.Uint64(m[40:])
		}
		w.size = uint64(size)
		at = int64(size)
	}
	w.seen = make([]uint64, w.high/64+1)
	return nil
}

// page checks a page and everything below it.
func (w *boltWalk) page(id uint64, depth int) error {
	if id < 2 || id >= w.high || depth > boltDepth {
		return fmt.Errorf("page %d is out of place", id)
	}
	if w.seen[id/64]&(1<<(id%64)) != 0 {
		return fmt.Errorf("page %d is used twice", id)
	}
	w.seen[id/64] |= 1 << (id % 64)
	base := int64(id * w.size)
	b := make([]byte, w.size)
	if _, err := w.f.ReadAt(b, base); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	flags, count := binary.LittleEndian.Uint16(b[8:]), uint64(binary.LittleEndian.Uint16(b[10:]))
	extent := (1 + uint64(binary.LittleEndian.Uint32(b[12:]))) * w.size
	switch {
	case binary.LittleEndian.Uint64(b) != id:
		return fmt.Errorf("page %d calls itself %d", id, binary.LittleEndian.Uint64(b))
	case flags != boltBranch && flags != boltLeaf:
		return fmt.Errorf("page %d is of kind %#x", id, flags)
	case id+extent/w.size > w.high || boltHeader+count*boltElem > extent:
		return fmt.Errorf("page %d is too long", id)
	}
	if n := boltHeader + count*boltElem; n > uint64(len(b)) {
		b = make([]byte, n)
		if _, err := w.f.ReadAt(b, base); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
	}
	for i := range count {
		off := boltHeader + i*boltElem
		var err error
		if flags == boltBranch {
			err = w.branch(b[off:], off, extent, depth)
		} else {
			err = w.leaf(b[off:], base, off, extent, depth)
		}
		if err != nil {
			return fmt.Errorf("page %d element %d: %w", id, i, err)
		}
	}
	return nil
}

var errBoltElement = errors.New("it reaches beyond its page")

// branch checks an element that stands off bytes into its page.
func (w *boltWalk) branch(e []byte, off, extent uint64, depth int) error {
	if off+uint64(binary.LittleEndian.Uint32(e))+uint64(binary.LittleEndian.Uint32(e[4:])) > extent {
		return errBoltElement
	}
	return w.page(binary.LittleEndian.Uint64(e[8:]), depth+1)
}

// leaf checks an element of a leaf; one that is a bucket leads to further pages.
func (w *boltWalk) leaf(e []byte, base int64, off, extent uint64, depth int) error {
	key, value := uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
	at := off + uint64(binary.LittleEndian.Uint32(e[4:])) + key
	if at+value > extent {
		return errBoltElement
	}
	const bucket = 0x01
	if binary.LittleEndian.Uint32(e)&bucket == 0 {
		return nil
	}
	var root [8]byte
	if value < 16 {
		return errBoltElement
	}
	if _, err := w.f.ReadAt(root[:], base+int64(at)); err != nil {
		return err
	}
	if id := binary.LittleEndian.Uint64(root[:]); id != 0 { // else it stands in this page
		return w.page(id, depth+1)
	}
	return nil
}
