package main

import (
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
)

type statusCmd struct {
	Check bool `help:"Exit with 1 unless the redundancy is FULL and the databases are equal; for monitoring."`
}

// Help shows an example.
func (*statusCmd) Help() string {
	return examples(
		"futago status                                         on a manager's host",
		"futago status --check                                 for monitoring",
		"futago status --api hostA:7700 --ca ca.crt -o json    from elsewhere, with FUTAGO_TOKEN set",
	)
}

// Run prints one screen.
func (c *statusCmd) Run(e *env) error {
	var st futago.ClusterStatus
	err := call(e, func(cl *client.Client, out *futago.ClusterStatus) (err error) {
		*out, err = cl.Status(e.ctx)
		st = *out
		return err
	}, showStatus)
	if err != nil || !c.Check {
		return err
	}
	if st.Redundancy != futago.RedundancyFull || st.Equality.State == "different" {
		return futago.Errorf(futago.CodeInternal, "redundancy is %s, databases %s", st.Redundancy, st.Equality.State)
	}
	return nil
}

func showStatus(t *tabwriter.Writer, s futago.ClusterStatus) {
	fmt.Fprintf(t, "%s  cluster %s, as manager %s sees it at %s\n", s.Redundancy, s.ClusterName, s.ReportedBy, s.Now.Format(time.RFC3339))
	for _, f := range s.Findings {
		fmt.Fprintf(t, "  ! %s\n", f)
	}
	if s.Leader != "" {
		fmt.Fprintf(t, "Leader %s since %s, term %d\n", s.Leader, s.LeaderSince.Local().Format(time.DateTime), s.Term)
	}
	fmt.Fprintf(t, "Databases %s", s.Equality.State)
	if s.Equality.Index > 0 {
		fmt.Fprintf(t, " at entry %d", s.Equality.Index)
	}
	fmt.Fprintf(t, "\nThird vote %s\n\n", thirdVote(s.ThirdVote))
	row(t, "MEMBER", "ROLE", "TERM", "APPLIED", "LAG", "SPOOL", "LOST", "DATABASE", "FREE", "CLOCK", "ADDRESS")
	for _, m := range s.Members {
		if !m.Reachable {
			row(t, m.Member, "no answer", "-", "-", "-", "-", "-", "-", "-", "-", m.Address)
			continue
		}
		lost := m.Local.Spool.Overflowed
		for _, r := range m.Local.Receivers {
			lost += r.Dropped
		}
		row(t, m.Member, m.Role, m.Term, m.Applied, m.Lag, m.Local.Spool.Depth, lost,
			size(uint64(m.Local.DatabaseBytes)), size(m.Local.FreeBytes), clock(m.ClockOffset.D()), m.Address)
	}
	fmt.Fprintln(t)
	row(t, "RECEIVER", "MEMBER", "ADDRESS", "RECEIVED", "DROPPED", "REFUSED", "UNPARSED")
	for _, m := range s.Members {
		for _, r := range m.Local.Receivers {
			row(t, r.Name, m.Member, r.Address, r.Received, r.Dropped, r.Refused, r.Unparsed)
		}
	}
}

func thirdVote(v futago.ThirdVoteStatus) string {
	s := v.Kind
	if v.Address != "" {
		s += " at " + v.Address
	}
	if !v.Reachable {
		return s + ": NO ANSWER, " + v.Problem
	}
	if v.Holders != "" {
		s += fmt.Sprintf(": answers; record %d, term %d, holders %s", v.Version, v.Term, v.Holders)
	} else {
		s += ": answers"
	}
	if v.Solo {
		s += "; the leader works alone"
	}
	return s
}

func clock(d time.Duration) string { return fmt.Sprintf("%+.1fms", float64(d.Microseconds())/1000) }

func size(n uint64) string {
	for _, u := range []struct {
		name string
		n    uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.n {
			return fmt.Sprintf("%.1f%s", float64(n)/float64(u.n), u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}

type switchCmd struct{}

// Run asks the leader to hand over.
func (*switchCmd) Run(e *env) error {
	return call(e, func(c *client.Client, out *struct{}) error {
		return c.Do(e.ctx, http.MethodPost, "/api/v1/switch", newKey(), nil, nil)
	}, func(t *tabwriter.Writer, _ struct{}) {
		row(t, "Leadership was handed over; see futago status.")
	})
}
