package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// parseBlock reads the block at the start of b. It returns false for anything
// that is not a whole block with right checksums.
func parseBlock(b []byte, nonce uint64) (blk cachedBlock, size int64, ok bool) {
	h, ok := parseBlockHeader(b, nonce)
	if !ok || len(b)-blockHeaderLen < h.size {
		return cachedBlock{}, 0, false
	}
	end := blockHeaderLen + h.size
	payload := b[blockHeaderLen:end:end]
	if crc32.Checksum(payload, castagnoli) != h.crc {
		return cachedBlock{}, 0, false
	}
	return cachedBlock{blockHeader: h, payload: payload}, int64(end), true
}

// findBlock returns the offset of the first whole block in b whose first
// position is at least minFirst, or -1.
func findBlock(b []byte, nonce, minFirst uint64) int64 {
	var magic [4]byte
	binary.LittleEndian.PutUint32(magic[:], blockMagic)
	for off := 0; ; off++ {
		i := bytes.Index(b[off:], magic[:])
		if i < 0 {
			return -1
		}
		off += i
		if blk, _, ok := parseBlock(b[off:], nonce); ok && blk.first >= minFirst {
			return int64(off)
		}
	}
}

// adoptNonce takes the nonce of a file whose header is damaged from its first
// block, which stands at a known place and has a known position. It returns 0
// when that one is damaged as well.
func adoptNonce(b []byte, first uint64) uint64 {
	if len(b) < segmentHeaderLen+blockHeaderLen {
		return 0
	}
	b = b[segmentHeaderLen:]
	nonce := binary.LittleEndian.Uint64(b[8:])
	if blk, _, ok := parseBlock(b, nonce); ok && blk.first == first {
		return nonce
	}
	return 0
}
