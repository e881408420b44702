package thirdvote

import (
	"time"

	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// EventKind names what happened.
type EventKind string

// The events.
const (
	EventVoted        EventKind = "voted"         // w voted for this manager
	EventSolo         EventKind = "solo"          // this manager goes on alone
	EventSoloFailed   EventKind = "solo-failed"   // it must, and could not
	EventReadmitted   EventKind = "readmitted"    // both managers hold again
	EventGaveUp       EventKind = "gave-up"       // a readmission was given up
	EventAdmitted     EventKind = "admitted"      // this data directory has a say now
	EventReplaced     EventKind = "replaced"      // the register names another data directory for this manager
	EventDeposed      EventKind = "deposed"       // the register is in a higher term than this leader
	EventRegisterLost EventKind = "register-lost" // reads of the register fail
	EventRegisterBack EventKind = "register-back" // they succeed again
	EventWentBack     EventKind = "went-back"     // the register shows an older or another record
)

// Event is one thing that happened, for the log and the history.
type Event struct {
	Kind   EventKind
	Term   uint64
	Record register.Record // as last believed
	Reason rules.Reason
	Err    error
}

// Counters count since the process started.
type Counters struct {
	Reads            uint64 `json:"reads"`
	ReadErrors       uint64 `json:"read_errors"`
	WentBack         uint64 `json:"went_back"`
	Votes            uint64 `json:"votes"`
	VotesRefused     uint64 `json:"votes_refused"`
	Solos            uint64 `json:"solos"`
	SolosFailed      uint64 `json:"solos_failed"`
	Readmissions     uint64 `json:"readmissions"`
	ReadmissionsLost uint64 `json:"readmissions_lost"`
	Deposed          uint64 `json:"deposed"`
	// Muted counts requests of an unadmitted node that were not sent, and of
	// others that it did not heed.
	Muted uint64 `json:"muted"`
}

// Status is one manager's view of the third vote.
type Status struct {
	// Record is the one last believed; the zero record if none was read yet.
	Record register.Record `json:"record"`
	// ReadAge is the time since the last good read began, 0 if there was none.
	ReadAge time.Duration `json:"read_age"`
	// Reachable: the last read succeeded.
	Reachable bool `json:"reachable"`
	// Solo: this manager may acknowledge for w in the present term.
	Solo     bool `json:"solo"`
	Admitted bool `json:"admitted"`
	// Replaced: the register names another data directory for this manager.
	Replaced bool       `json:"replaced"`
	Mark     rules.Mark `json:"mark"`
	// Phase of the readmission under way.
	Phase rules.Phase `json:"phase"`
	// Waiting is how long the oldest request to w has waited for the peer.
	Waiting      time.Duration     `json:"waiting"`
	PeerIdentity register.Identity `json:"peer_identity"`
	// PeerAge is the time since the start of the last request to the peer that
	// was answered, 0 if there was none.
	PeerAge   time.Duration `json:"peer_age"`
	LastError string        `json:"last_error,omitempty"`
	Counters  Counters      `json:"counters"`
}

// Status returns this manager's view now. It asks nobody.
func (v *Voter) Status() Status {
	l := v.local()
	s := Status{Mark: v.mark(), Admitted: l.Admitted, Solo: rules.HoldsSolo(v.cfg.switches, l, l.Term)}
	now := time.Now()
	age := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return now.Sub(t)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s.Record, s.ReadAge, s.Reachable = v.rec, age(v.readAt), v.reachable
	s.Replaced = v.replaced
	s.Phase = v.phase
	s.PeerIdentity, s.PeerAge = v.peer.Identity, age(v.contact.answered)
	if v.waiting != nil {
		s.Waiting = age(v.waiting.since)
	}
	if v.lastErr != nil {
		s.LastError = v.lastErr.Error()
	}
	s.Counters = v.count
	return s
}
