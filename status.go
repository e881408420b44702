package futago

import "time"

// ClusterStatus is what one manager knows of the whole cluster now.
type ClusterStatus struct {
	ClusterName string     `json:"cluster_name"`
	ClusterID   string     `json:"cluster_id"`
	Redundancy  Redundancy `json:"redundancy"`
	// Findings say in sentences what is missing and what to do, most urgent
	// first; empty when Redundancy is FULL.
	Findings []string `json:"findings,omitempty"`
	// Leader acts now; "" when nobody does.
	Leader      MemberID        `json:"leader,omitempty"`
	LeaderSince time.Time       `json:"leader_since,omitzero"`
	Term        uint64          `json:"term"`
	Members     []MemberStatus  `json:"members"`
	ThirdVote   ThirdVoteStatus `json:"third_vote"`
	Equality    Equality        `json:"equality"`
	// ReportedBy is the member that answered, at its time Now.
	ReportedBy MemberID  `json:"reported_by"`
	Now        time.Time `json:"now"`
}

// MemberStatus is one member as the reporting one sees it.
type MemberStatus struct {
	Member  MemberID `json:"member"`
	Address string   `json:"address,omitempty"` // of its API
	// Reachable is whether it answered the reporting member; Problem says why not.
	Reachable bool   `json:"reachable"`
	Problem   string `json:"problem,omitempty"`
	Role      string `json:"role,omitempty"`
	Term      uint64 `json:"term,omitempty"`
	// LastLog, Commit and Applied are log indexes; Lag is how many entries
	// Applied is behind that of the member which has applied most.
	LastLog uint64 `json:"last_log"`
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
	Lag     uint64 `json:"lag"`
	// Hash is the running hash of everything applied up to Applied.
	Hash string `json:"hash,omitempty"`
	// ClockOffset is its clock minus the reporting member's, to within half the
	// round trip; positive is ahead.
	ClockOffset Duration    `json:"clock_offset"`
	LogBytes    int64       `json:"log_bytes"`
	Local       LocalStatus `json:"local"`
}

// LocalStatus is what a member tells about itself beside its Raft state.
type LocalStatus struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at,omitzero"`
	// State is "running", or why this member takes part no more for now
	// ("storage-full", …); Detail is the sentence to it.
	State         string `json:"state"`
	Detail        string `json:"detail,omitempty"`
	DatabaseBytes int64  `json:"database_bytes"`
	// FreeBytes is the room on the file system of the data directory.
	FreeBytes uint64           `json:"free_bytes"`
	Spool     SpoolStatus      `json:"spool"`
	Receivers []ReceiverStatus `json:"receivers,omitempty"`
	Queues    []QueueStatus    `json:"queues,omitempty"`
}

// SpoolStatus tells what waits on a manager for the log.
type SpoolStatus struct {
	// Depth is the number of traps received and not yet committed.
	Depth      uint64 `json:"depth"`
	Bytes      int64  `json:"bytes"`
	LimitBytes int64  `json:"limit_bytes"`
	// OldestAt is the arrival of the oldest one that waits, zero for none.
	OldestAt time.Time `json:"oldest_at,omitzero"`
	// Appended counts since the start of the process; Overflowed counts traps
	// refused because the spool or the file system was full.
	Appended   uint64 `json:"appended"`
	Overflowed uint64 `json:"overflowed"`
	LastError  string `json:"last_error,omitempty"`
}

// ReceiverStatus counts what one receiver saw since the start of the process.
type ReceiverStatus struct {
	Name     string `json:"name"` // "syslog/udp", …
	Address  string `json:"address"`
	Received uint64 `json:"received"`
	Bytes    uint64 `json:"bytes"`
	// Dropped counts datagrams that the kernel dropped for want of buffer, and
	// messages refused because the spool was full.
	Dropped   uint64 `json:"dropped"`
	Truncated uint64 `json:"truncated"`
	// Refused counts connections and requests turned away.
	Refused  uint64 `json:"refused"`
	Unparsed uint64 `json:"unparsed"`
	Open     int    `json:"open"` // connections now
}

// QueueStatus is the depth and the drops of an internal queue.
type QueueStatus struct {
	Name    string `json:"name"`
	Depth   uint64 `json:"depth"`
	Limit   uint64 `json:"limit"`
	Dropped uint64 `json:"dropped"`
}

// ThirdVoteStatus describes the third vote as the reporting member sees it.
type ThirdVoteStatus struct {
	Kind string `json:"kind"` // "register" or "manager"
	// Reachable is whether the last read (or question) was answered, at ReadAt.
	Reachable bool      `json:"reachable"`
	Problem   string    `json:"problem,omitempty"`
	ReadAt    time.Time `json:"read_at,omitzero"`
	// The rest describes the register's record and is empty for a manager.
	Address  string   `json:"address,omitempty"`
	Version  uint64   `json:"version,omitempty"`
	Term     uint64   `json:"term,omitempty"`
	VotedFor MemberID `json:"voted_for,omitempty"`
	Holders  string   `json:"holders,omitempty"` // "a,b", "a" or "b"
	// Solo is whether this leader acknowledges writes alone.
	Solo bool `json:"solo"`
}

// Equality compares the two databases.
type Equality struct {
	// State is "equal", "different", or "unknown" when the other manager does
	// not answer or no index is known to both.
	State string `json:"state"`
	// Index is the entry up to which both were compared.
	Index uint64 `json:"index,omitempty"`
}
