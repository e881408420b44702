package forward

import (
	"bytes"
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// cacheFor is how long, in arrival time, a decoded message is taken for what
// it was: dates without a year depend on the time of arrival.
const cacheFor = int64(10 * time.Minute)

// entry is one message and what became of it.
type entry struct {
	hash      uint64
	raw       []byte
	source    netip.Addr
	kind      futago.Kind
	transport futago.Transport
	truncated bool
	at        int64 // arrival of the copy that was decoded

	body command.Body

	// Place in the batch being made, valid when batch is its number.
	batch uint64
	index uint32

	prev, next *entry
	size       int64
}

// cache finds messages that are equal byte for byte and from the same address,
// so that each is decoded and encoded once. The sender's port is not compared:
// it differs from one copy to the next and means nothing, and the decoded trap
// keeps that of the first. The least recently used go first. For one goroutine.
type cache struct {
	limit, size int64
	seed        maphash.Seed
	entries     map[uint64]*entry
	ring        entry // ring.next is the most recently used
	hits        uint64
	misses      uint64
}

// entryOverhead is about what an entry takes besides its bytes.
const entryOverhead = 320

func newCache(limit int64) *cache {
	c := &cache{limit: limit, seed: maphash.MakeSeed()}
	c.clear()
	return c
}

func (c *cache) clear() {
	c.entries = map[uint64]*entry{}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	c.size = 0
}

// get returns the entry of a message, a new one (fresh) without body when
// there was none. Raw of a new entry is that of r: see own.
func (c *cache) get(r *futago.Received) (e *entry, fresh bool) {
	source := r.Source.Addr()
	h := maphash.Bytes(c.seed, r.Raw) ^ uint64(r.Kind)<<56 ^ uint64(r.Transport)<<48
	h ^= maphash.Comparable(c.seed, source)
	if r.Truncated {
		h = ^h
	}
	e = c.entries[h]
	if e != nil && e.kind == r.Kind && e.transport == r.Transport && e.truncated == r.Truncated && e.source == source &&
		r.At-e.at < cacheFor && e.at-r.At < cacheFor && bytes.Equal(e.raw, r.Raw) {
		c.hits++
		c.unlink(e)
		c.front(e)
		return e, false
	}
	c.misses++
	if e != nil { // too old, or another message with the same hash
		c.drop(e)
	}
	e = &entry{
		hash: h, raw: r.Raw, source: source, kind: r.Kind, transport: r.Transport, truncated: r.Truncated, at: r.At,
	}
	c.entries[h] = e
	c.front(e)
	return e, true
}

// own is called once the body is there: the entry's message becomes a copy of
// its own, and what is too much is dropped.
func (c *cache) own(e *entry) {
	if c.entries[e.hash] != e {
		return // dropped within the same batch
	}
	e.size = int64(len(e.body.Trap)) + entryOverhead
	if i := bytes.Index(e.body.Trap, e.raw); i >= 0 { // an encoded trap has it whole
		e.raw = e.body.Trap[i : i+len(e.raw)]
	} else {
		e.raw = bytes.Clone(e.raw)
		e.size += int64(len(e.raw))
	}
	c.size += e.size
	for c.size > c.limit && c.ring.prev != &c.ring {
		c.drop(c.ring.prev)
	}
}

func (c *cache) front(e *entry) {
	e.prev, e.next = &c.ring, c.ring.next
	e.prev.next, e.next.prev = e, e
}

func (c *cache) unlink(e *entry) { e.prev.next, e.next.prev = e.next, e.prev }

func (c *cache) drop(e *entry) {
	c.unlink(e)
	c.size -= e.size
	e.size = 0
	delete(c.entries, e.hash)
}
