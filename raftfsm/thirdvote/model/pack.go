package model

import (
	"slices"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// packed is a state in as few words as the bounds of a search allow.
type packed [9]uint64

// bits writes and reads fields of a word from its low end.
type bits struct {
	word uint64
	at   uint
}

func (b *bits) put(v uint8, width uint) {
	b.word |= uint64(v) << b.at
	b.at += width
}

func (b *bits) flag(v bool) {
	if v {
		b.put(1, 1)
	} else {
		b.put(0, 1)
	}
}

func (b *bits) get(width uint) uint8 {
	v := uint8(b.word >> b.at & (1<<width - 1))
	b.at += width
	return v
}

func (b *bits) getFlag() bool { return b.get(1) == 1 }

func (b *bits) putVersion(v version) { b.put(v.number, 5); b.put(v.history, 1) }

func (b *bits) getVersion() version { return version{number: b.get(5), history: b.get(1)} }

func (b *bits) putTerms(l *[maxLog]uint8) {
	for _, t := range l[:packedLog] {
		b.put(t, 3)
	}
}

func (b *bits) getTerms(l *[maxLog]uint8) {
	for i := range packedLog {
		l[i] = b.get(3)
	}
}

func (b *bits) putRecord(r record) {
	b.putVersion(r.version)
	b.put(r.term, 3)
	b.put(r.vote, 2)
	b.put(r.holders, 2)
	b.put(r.ident[0], 1)
	b.put(r.ident[1], 1)
}

func (b *bits) getRecord() record {
	return record{version: b.getVersion(), term: b.get(3), vote: b.get(2), holders: b.get(2), ident: [2]uint8{b.get(1), b.get(1)}}
}

func packNode(n *node) uint64 {
	var b bits
	b.put(n.term, 3)
	b.put(n.voted, 2)
	b.put(n.len, 3)
	b.putTerms(&n.log)
	b.put(n.ident, 1)
	b.flag(n.admitted)
	b.putVersion(n.mark)
	b.put(uint8(n.role), 2)
	b.put(n.commit, 3)
	b.put(n.votes, 2)
	b.put(n.match, 3)
	b.put(n.solo, 3)
	b.flag(n.barred)
	b.put(uint8(n.phase), 3)
	b.put(n.bar, 3)
	b.putVersion(n.on)
	b.put(n.peer, 2)
	b.flag(n.reading)
	return b.word
}

func unpackNode(w uint64) node {
	b := bits{word: w}
	var n node
	n.term, n.voted, n.len = b.get(3), b.get(2), b.get(3)
	b.getTerms(&n.log)
	n.ident, n.admitted, n.mark = b.get(1), b.getFlag(), b.getVersion()
	n.role, n.commit, n.votes, n.match = role(b.get(2)), b.get(3), b.get(2), b.get(3)
	n.solo, n.barred, n.phase, n.bar = b.get(3), b.getFlag(), rules.Phase(b.get(3)), b.get(3)
	n.on, n.peer, n.reading = b.getVersion(), b.get(2), b.getFlag()
	return n
}

func packMessage(m message) uint64 {
	var b bits
	b.put(uint8(m.kind), 3)
	b.put(m.from, 1)
	b.put(m.term, 4)
	b.put(m.len, 4)
	b.put(m.commit, 4)
	for _, t := range m.log {
		b.put(t, 4)
	}
	return b.word
}

func packWrite(w write) uint64 {
	var b bits
	b.put(w.owner, 1)
	b.put(uint8(w.kind), 2)
	b.put(uint8(w.state), 2)
	b.flag(w.attended)
	b.flag(w.blind)
	b.putVersion(w.on)
	b.put(w.term, 4)
	b.put(w.next.term, 4)
	b.put(w.next.vote, 2)
	b.put(w.next.holders, 2)
	b.put(w.next.ident[0], 1)
	b.put(w.next.ident[1], 1)
	return b.word
}

func unpackWrite(word uint64) write {
	b := bits{word: word}
	return write{
		owner: b.get(1), kind: rules.Kind(b.get(2)), state: writeState(b.get(2)), attended: b.getFlag(), blind: b.getFlag(),
		on: b.getVersion(), term: b.get(4),
		next: record{term: b.get(4), vote: b.get(2), holders: b.get(2), ident: [2]uint8{b.get(1), b.get(1)}},
	}
}

// packSmallMessage and its inverse hold a message of a bounded search in 27
// bits.
func packSmallMessage(m message) uint64 {
	var b bits
	b.put(uint8(m.kind), 3)
	b.put(m.from, 1)
	b.put(m.term, 3)
	b.put(m.len, 3)
	b.put(m.commit, 3)
	b.putTerms(&m.log)
	return b.word
}

func unpackSmallMessage(w uint64) message {
	b := bits{word: w}
	m := message{kind: messageKind(b.get(3)), from: b.get(1), term: b.get(3), len: b.get(3), commit: b.get(3)}
	b.getTerms(&m.log)
	return m
}

func pack(s *state) packed {
	var p packed
	p[0], p[1] = packNode(&s.n[0]), packNode(&s.n[1])
	var b bits
	b.putRecord(s.rec)
	b.putRecord(s.backup)
	b.put(s.acked, 3)
	b.putTerms(&s.ackedTerm)
	b.putTerms(&s.ackedIn)
	p[2] = b.word
	b = bits{}
	b.put(uint8(s.leaders), 8)
	b.put(s.crashes, 3)
	b.put(s.losses, 3)
	b.put(s.restore, 2)
	b.put(s.nMessages, 3)
	b.put(s.nWrites, 2)
	p[3] = b.word
	for k := range s.messages {
		p[4+k/2] |= packSmallMessage(s.messages[k]) << (27 * (k % 2))
	}
	for k := range s.writes {
		p[6+k] = packWrite(s.writes[k])
	}
	return p
}

func unpack(p *packed) state {
	var s state
	s.n[0], s.n[1] = unpackNode(p[0]), unpackNode(p[1])
	b := bits{word: p[2]}
	s.rec, s.backup, s.acked = b.getRecord(), b.getRecord(), b.get(3)
	b.getTerms(&s.ackedTerm)
	b.getTerms(&s.ackedIn)
	b = bits{word: p[3]}
	s.leaders, s.crashes, s.losses = uint16(b.get(8)), b.get(3), b.get(3)
	s.restore, s.nMessages, s.nWrites = b.get(2), b.get(3), b.get(2)
	for k := range s.messages {
		s.messages[k] = unpackSmallMessage(p[4+k/2] >> (27 * (k % 2)) & (1<<27 - 1))
	}
	for k := range s.writes {
		s.writes[k] = unpackWrite(p[6+k])
	}
	return s
}

// key packs the smaller of s and its mirror image.
func (m *Model) key(s *state) packed {
	p := pack(s)
	if m.plain {
		return p
	}
	t := swapped(s)
	if q := pack(&t); slices.Compare(p[:], q[:]) > 0 {
		return q
	}
	return p
}

// hash is never 0.
func (p *packed) hash() uint64 {
	h := uint64(0x9E3779B97F4A7C15)
	for _, w := range p {
		h ^= w
		h *= 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	h ^= h >> 29
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 32
	return max(h, 1)
}
