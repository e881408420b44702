package thirdvote

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// ServerID and Address are those of the third vote in the Raft configuration.
// Nothing listens at the address.
const (
	ServerID = raft.ServerID(futago.MemberW)
	Address  = raft.ServerAddress("third-vote")
)

// Config is what a Voter needs. Zero durations and counts get the defaults
// named with them.
type Config struct {
	// Self is this manager, a or b.
	Self futago.MemberID
	// Identity is the random name of this manager's data directory. It must be
	// new whenever log, term or vote of the directory were lost.
	Identity register.Identity
	// Register is the third vote's memory.
	Register register.Register
	// Peer reaches the other manager. May be nil in tests of one node.
	Peer Peer
	// File keeps the highest version seen and whether this directory was
	// admitted. It lies in the data directory.
	File string

	// HeartbeatTimeout is Raft's. The other durations derive from it.
	HeartbeatTimeout time.Duration
	// ReadTimeout bounds one read of the register; half a heartbeat time-out.
	ReadTimeout time.Duration
	// WriteTimeout bounds one write; one heartbeat time-out, at least 100 ms.
	WriteTimeout time.Duration
	// DetectFailed is how long an entry must have waited before a peer that
	// answers with errors, or was silent anyway, is given up; a tenth.
	DetectFailed time.Duration
	// DetectSilent is how long a peer may give no answer; half.
	DetectSilent time.Duration
	// DetectStalled is how long an entry may wait for a peer that answers
	// heartbeats and takes nothing; four heartbeat time-outs.
	DetectStalled time.Duration
	// ReadmitLag is how many entries a peer may be behind for a readmission to
	// begin; 256.
	ReadmitLag uint64
	// ReadmitTimeout bounds a readmission's barrier; four heartbeat time-outs.
	ReadmitTimeout time.Duration
	// CommitPoll is how often the commit index is looked at while an append to
	// w waits for it, for the library tells nobody; 1 ms.
	CommitPoll time.Duration

	Logger *slog.Logger
	// OnEvent, if set, is told what happens. It must return at once, and call
	// nothing of the Voter but Status.
	OnEvent func(Event)

	// switches is for tests: see rules.Switches.
	switches rules.Switches
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Self.Peer() == "":
		return c, fmt.Errorf("third vote: %q is no manager", c.Self)
	case c.Identity.IsZero():
		return c, errors.New("third vote: no identity of the data directory")
	case c.Register == nil:
		return c, errors.New("third vote: no register")
	case c.File == "":
		return c, errors.New("third vote: no file")
	case c.HeartbeatTimeout <= 0:
		return c, errors.New("third vote: no heartbeat time-out")
	}
	hb := c.HeartbeatTimeout
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&c.ReadTimeout, hb/2)
	set(&c.WriteTimeout, max(hb, 100*time.Millisecond))
	set(&c.DetectFailed, hb/10)
	set(&c.DetectSilent, hb/2)
	set(&c.DetectStalled, 4*hb)
	set(&c.ReadmitTimeout, 4*hb)
	set(&c.CommitPoll, time.Millisecond)
	if c.ReadmitLag == 0 {
		c.ReadmitLag = 256
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("component", "thirdvote", "member", string(c.Self))
	var err error
	c.switches, err = unsafeRules(c.switches, c.Logger)
	return c, err
}
