package httpapi

import (
	"context"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// Backend is what the API needs of the manager. Methods are safe for concurrent
// use. Reads answer from this manager's database, which on a standby may be a
// few milliseconds behind; VerifyRead before a read makes it linearizable on
// the leader. Writes go through the log: they return once the change is applied
// on the leader, with CodeUnavailable when nothing was changed, CodeUnknown
// when the outcome is not known, CodeNotLeader when this manager is a standby.
type Backend interface {
	// Status asks all members, within a bound of about a second.
	Status(ctx context.Context) (futago.ClusterStatus, error)
	// Member is this manager; Leader is who leads and where its API is, ""
	// when nobody is known.
	Member() futago.MemberID
	Leader() (member futago.MemberID, api string)
	// Ready returns nil when this manager serves its role (leader past its
	// barrier, or a standby that follows one), else why it does not.
	Ready(ctx context.Context) error
	VerifyRead(ctx context.Context) error

	Events(ctx context.Context, q futago.EventQuery) (futago.EventPage, error)
	Event(ctx context.Context, id uint64) (futago.Event, error)
	// Subscribe returns a channel that receives a value after commits that made
	// or changed events; values are merged when the receiver is slow. It is
	// closed when ctx ends.
	Subscribe(ctx context.Context) <-chan struct{}

	IntakeSettings(ctx context.Context) (futago.IntakeSettings, error)
	// PutIntakeSettings replaces the settings; Revision is that of the settings
	// which the caller read, and CodeConflict says that they changed since.
	// Masked secrets keep their present value; plain ones are sealed.
	PutIntakeSettings(ctx context.Context, a Actor, s futago.IntakeSettings) (futago.IntakeSettings, error)

	Users(ctx context.Context) ([]futago.User, error)
	User(ctx context.Context, name string) (futago.User, error)
	// PutUser creates a user (create) or replaces one.
	PutUser(ctx context.Context, a Actor, u futago.User, create bool) error
	DeleteUser(ctx context.Context, a Actor, name string) error

	Tokens(ctx context.Context) ([]futago.Token, error)
	Token(ctx context.Context, id string) (futago.Token, error)
	PutToken(ctx context.Context, a Actor, t futago.Token) error
	DeleteToken(ctx context.Context, a Actor, id string) error

	// IssueJoinToken makes a one-time token for a member that joins through
	// this manager.
	IssueJoinToken(ctx context.Context, m futago.MemberID, ttl time.Duration) (string, error)
	// SwitchLeader hands leadership to the other manager.
	SwitchLeader(ctx context.Context, a Actor) error
}

// Actor is who asks for a change: the name for the record, and the proposal id
// that makes a repetition of the same request harmless (from the
// Idempotency-Key header, or made for the request).
type Actor struct {
	Name     string
	Proposal command.ID
	// Local marks the operator at this host's own socket, whose change a
	// standby forwards instead of naming the leader, for there are no
	// credentials of the operator's to use there.
	Local bool
}
