package console

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/futago/futago"
)

// statusBody is the state of the cluster.
type statusBody struct {
	futago.ClusterStatus
	Self    futago.MemberID
	Problem string // why there is no status
	// Standby is set when another manager leads; LeaderURL is where.
	Standby   bool
	LeaderURL string
	PeerURL   string // the other manager's console
	Cards     []card
}

// card is one manager.
type card struct {
	futago.MemberStatus
	Leads bool
	Self  bool
	Lost  uint64 // traps that it could not keep
}

// Word is the role for people.
func (c card) Word() string {
	switch c.Role {
	case "":
		return "unknown"
	case "follower":
		return "standby"
	}
	return c.Role
}

// Meaning says what the redundancy word means.
func (s statusBody) Meaning() string {
	switch s.Redundancy {
	case futago.RedundancyFull:
		return "Any one of the three may fail."
	case futago.RedundancySurvivesOne:
		return "Something is missing, yet one more failure would be survived."
	case futago.RedundancyNoSpare:
		return "The service works. The next failure stops it."
	case futago.RedundancyStoppedSafe:
		return "Nothing is written now. Traps wait in the spools."
	}
	return ""
}

// Class is the redundancy word as a CSS class.
func (s statusBody) Class() string {
	switch s.Redundancy {
	case futago.RedundancyFull:
		return "good"
	case futago.RedundancySurvivesOne:
		return "fair"
	case futago.RedundancyNoSpare:
		return "poor"
	default:
		return "bad"
	}
}

// statusCache asks the members once a second at most, however many look.
type statusCache struct {
	o    Options
	turn chan struct{} // who asks; the others wait for the answer

	mu   sync.Mutex // guards what follows
	last futago.ClusterStatus
	err  error
	at   time.Time
}

const statusFresh = time.Second

func newStatusCache(o Options) *statusCache {
	return &statusCache{o: o, turn: make(chan struct{}, 1)}
}

func (s *statusCache) fresh() (st futago.ClusterStatus, err error, ok bool) { //nolint:revive // the error is part of the value here
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.err, !s.at.IsZero() && s.o.Now().Sub(s.at).Abs() < statusFresh
}

func (s *statusCache) get(ctx context.Context) (futago.ClusterStatus, error) {
	if st, err, ok := s.fresh(); ok {
		return st, err
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return futago.ClusterStatus{}, ctx.Err()
	}
	if st, err, ok := s.fresh(); ok {
		return st, err
	}
	st, err := s.o.Backend.Status(ctx)
	if ctx.Err() != nil {
		return st, ctx.Err() // a reader that went away spoils nothing for the others
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.err, s.at = st, err, s.o.Now()
	return st, err
}

func (c *console) statusOf(r *http.Request) statusBody {
	self := c.o.Backend.Member()
	st, err := c.status.get(r.Context())
	b := statusBody{ClusterStatus: st, Self: self}
	if err != nil {
		c.log.Debug("no status", "err", err)
		b.Problem = asError(err).Message
		b.Redundancy = futago.RedundancyStoppedSafe
	}
	leader, address := c.o.Backend.Leader()
	if leader != "" && leader != self {
		b.Standby = true
		if address != "" {
			b.LeaderURL = "https://" + address + "/"
		}
	}
	for _, m := range st.Members {
		if m.Member == self.Peer() && m.Address != "" {
			b.PeerURL = "https://" + m.Address + "/"
		}
		k := card{MemberStatus: m, Leads: m.Member == st.Leader, Self: m.Member == self, Lost: m.Local.Spool.Overflowed}
		for _, v := range m.Local.Receivers {
			k.Lost += v.Dropped
		}
		if m.Member != futago.MemberW {
			b.Cards = append(b.Cards, k)
		}
	}
	return b
}
