package rules

import (
	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// FirstTerm returns the term in which an unadmitted node starts, from its own
// and the register's (R6): never a lower one than the register's, so that it
// acknowledges nothing to a leader that is deposed already.
func FirstTerm(sw Switches, current uint64, rec register.Record) uint64 {
	if sw.R6KeepTerm {
		return current
	}
	return max(current, rec.Term)
}

// Admits reports whether rec admits the data directory id of the manager m: it
// is among the holders with this directory.
func Admits(m futago.MemberID, id register.Identity, rec register.Record) bool {
	return rec.Holds(m, id)
}

// Replaced reports whether rec names another data directory for m: the one at
// hand is an old one that was replaced.
func Replaced(m futago.MemberID, id register.Identity, rec register.Record) bool {
	known := rec.Identity(m)
	return !known.IsZero() && known != id
}

// MayVote reports whether this node answers a request for its own vote.
func MayVote(sw Switches, admitted bool) bool { return admitted || sw.R6Vote }

// MayCampaign reports whether this node asks others, and w, for their votes,
// and whether it heeds a request to begin an election now.
func MayCampaign(sw Switches, admitted bool) bool { return admitted || sw.R6Campaign }

// Mark is the highest version of the register that a node has seen or was told
// of, with its nonce.
type Mark struct {
	Version uint64         `json:"version"`
	Nonce   register.Nonce `json:"nonce"`
}

// MarkOf returns the mark of a record.
func MarkOf(rec register.Record) Mark { return Mark{Version: rec.Version, Nonce: rec.Nonce} }

// Above reports whether m is of a higher version than o.
func (m Mark) Above(o Mark) bool { return m.Version > o.Version }

// Judge decides whether a record just read is to be believed, given the highest
// mark seen (R7): a lower version, or an equal one with another nonce, is a
// register that went back. The mark to keep, on disk before anything else is
// done, is the one returned.
func Judge(sw Switches, seen Mark, rec register.Record) (Mark, Reason, bool) {
	m := MarkOf(rec)
	switch {
	case m == seen:
		return seen, ReasonSame, true
	case m.Above(seen):
		return m, ReasonNewer, true
	case sw.R7NoMark:
		return seen, ReasonSwitchedOff, true
	case seen.Above(m):
		return seen, ReasonWentBack, false
	default:
		return seen, ReasonOtherHistory, false
	}
}

// JudgeWritten is [Judge] for a record that this node has written, and the highest
// mark it knows now, not when it sent the write (R7). One that is below counts
// for nothing: others have written upon it, or it took effect on a register that
// had gone back, as a vote that was delayed may, in a term in which the other
// manager was elected by the record that got lost. Which, cannot be told, and only
// [ReasonOtherHistory] is sure to be the latter.
func JudgeWritten(sw Switches, seen Mark, rec register.Record) (Mark, Reason, bool) {
	mark, why, ok := Judge(sw, seen, rec)
	switch {
	case ok || why != ReasonWentBack:
		return mark, why, ok
	case sw.R7Overtaken:
		return mark, ReasonSwitchedOff, true
	default:
		return mark, ReasonOvertaken, false
	}
}

// Missing is [Judge] for a register that works and has no record: it went back
// if there ever was one.
func Missing(seen Mark) (Reason, bool) {
	if seen.Version > 0 {
		return ReasonWentBack, false
	}
	return ReasonSame, true
}
