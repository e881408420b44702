package model

import (
	"slices"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// The widths of a packed state set the bounds of an exhaustive search; a walk
// may go to the capacities.
const (
	maxLog      = 8
	maxMessages = 4
	maxWrites   = 3
	maxTerm     = 15

	packedTerm = 7
	packedLog  = 4
)

type role uint8

const (
	follower role = iota
	candidate
	leader
)

// node is one manager. Nodes are numbered 0 and 1; in a vote 0 is nobody, and
// 1 and 2 are the nodes.
type node struct {
	// Kept on disk.
	term     uint8
	voted    uint8
	len      uint8
	log      [maxLog]uint8 // term of each entry
	ident    uint8         // 0, and 1 for the directory after a lost disk
	admitted bool
	mark     version // highest version seen

	// Kept in memory.
	role    role
	commit  uint8
	votes   uint8 // bit 0: the peer's, bit 1: the third vote
	match   uint8
	solo    uint8
	barred  bool
	phase   rules.Phase
	bar     uint8   // index of the barrier
	on      version // read in the first phase
	peer    uint8   // the peer's directory plus 1, 0 for unknown
	reading bool    // a read has begun that misses an acknowledged entry
}

// lastTerm is the term of the newest entry, 0 for an empty log.
func (n *node) lastTerm() uint8 {
	if n.len == 0 {
		return 0
	}
	return n.log[n.len-1]
}

// ownTermCommitted reports whether an entry of the node's own term is known to
// be committed.
func (n *node) ownTermCommitted() bool { return n.commit > 0 && n.log[n.commit-1] == n.term }

// version stands for version and nonce of a record. Records written after a
// restore are of another history, which the nonce would show.
type version struct{ number, history uint8 }

// record is the register's content.
type record struct {
	version version
	term    uint8
	vote    uint8
	holders uint8 // bits
	ident   [2]uint8
}

type messageKind uint8

const (
	voteRequest messageKind = iota + 1
	voteReply
	appendRequest
	appendReply
	heartbeatRequest
	heartbeatReply
)

// message is one RPC or answer under way between the nodes.
type message struct {
	kind   messageKind
	from   uint8
	term   uint8
	len    uint8
	commit uint8
	log    [maxLog]uint8 // of a voteRequest: only the last entry's term, first
}

type writeState uint8

const (
	underWay writeState = iota
	done
	refused
)

// write is one compare-and-set that was sent and not answered. Attended: its
// sender waits for the answer.
type write struct {
	owner    uint8
	kind     rules.Kind
	state    writeState
	attended bool
	blind    bool
	on       version
	term     uint8 // in which it was prepared
	next     record
}

// state is everything. The ghost fields know what no node does.
type state struct {
	n   [2]node
	rec record

	messages  [maxMessages]message
	nMessages uint8
	writes    [maxWrites]write
	nWrites   uint8

	crashes, losses uint8
	backup          record
	restore         uint8 // 0: no backup taken, 1: taken, 2: restored

	acked     uint8         // entries acknowledged to clients or committed
	ackedTerm [maxLog]uint8 // term of each such entry
	ackedIn   [maxLog]uint8 // leadership in which it was first acknowledged
	leaders   uint16        // terms that had a leader, as bits
}

// initial is two nodes in term 1, led by node 0 with its peer's vote, and a
// register that never had to vote.
func initial() state {
	var s state
	for i := range s.n {
		s.n[i] = node{term: 1, voted: 1, admitted: true, mark: version{number: 1}}
	}
	s.n[0].role = leader
	s.leaders = 1 << 1
	s.rec = record{version: version{number: 1}, holders: 3}
	return s
}

func (s *state) addMessage(m message) {
	s.messages[s.nMessages] = m
	s.nMessages++
}

func (s *state) hasMessage(m message) bool {
	return slices.Contains(s.messages[:s.nMessages], m)
}

func (s *state) dropMessage(k int) {
	s.nMessages--
	s.messages[k] = s.messages[s.nMessages]
	s.messages[s.nMessages] = message{}
}

func (s *state) addWrite(w write) {
	s.writes[s.nWrites] = w
	s.nWrites++
}

func (s *state) dropWrite(k int) {
	s.nWrites--
	s.writes[k] = s.writes[s.nWrites]
	s.writes[s.nWrites] = write{}
}

// attended reports whether node i waits for a write of that kind.
func (s *state) attended(i int, kind rules.Kind) bool {
	for _, w := range s.writes[:s.nWrites] {
		if w.owner == uint8(i) && w.attended && w.kind == kind {
			return true
		}
	}
	return false
}
