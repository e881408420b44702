package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
)

type eventsCmd struct {
	Text     []string `arg:"" optional:"" help:"Words to search for; \"quoted phrases\" and word* too."`
	From     string   `help:"Events from this time on (RFC 3339, or a duration like 15m ago)."`
	To       string   `help:"Events before this time."`
	Kind     []string `help:"syslog, snmptrap, customtrap, internal."`
	Severity string   `help:"At least this severe (emerg … debug)."`
	Source   string   `help:"From this address or prefix."`
	Host     string   `help:"Whose message names this host."`
	Limit    int      `short:"n" default:"50" help:"How many."`
	Before   uint64   `help:"Older than the event with this id: the next page."`
	Follow   bool     `short:"f" help:"Print events as they are recorded, until interrupted."`
}

// Help shows examples.
func (*eventsCmd) Help() string {
	return examples(
		"futago events --from 15m --severity err",
		"futago events link down --source 192.0.2.0/24",
		"futago events -f --kind snmptrap -o json",
	)
}

// query turns the flags into a query.
func (c *eventsCmd) query(now time.Time) (q futago.EventQuery, err error) {
	q = futago.EventQuery{Host: c.Host, Text: strings.Join(c.Text, " "), Limit: c.Limit, Before: c.Before}
	if q.From, err = parseTime(c.From, now); err != nil {
		return q, err
	}
	if q.To, err = parseTime(c.To, now); err != nil {
		return q, err
	}
	for _, s := range c.Kind {
		k, err := futago.ParseKind(s)
		if err != nil {
			return q, err
		}
		q.Kinds = append(q.Kinds, k)
	}
	if c.Severity != "" {
		s, err := futago.ParseSeverity(c.Severity)
		if err != nil {
			return q, err
		}
		q.MaxSeverity = &s
	}
	if c.Source != "" {
		if q.Source, err = futago.ParsePrefix(c.Source); err != nil {
			return q, err
		}
	}
	return q, nil
}

// parseTime reads a time, or a duration that reaches back from now.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, futago.Errorf(futago.CodeInvalid, "%q is no time", s).WithAction("write it like 2026-11-22T03:00:00Z, or 15m for fifteen minutes ago")
}

// Run lists one page, or follows.
func (c *eventsCmd) Run(e *env) error {
	q, err := c.query(time.Now())
	if err != nil {
		return err
	}
	if c.Follow {
		return c.follow(e, q)
	}
	return call(e, func(cl *client.Client, out *futago.EventPage) (err error) {
		*out, err = cl.Events(e.ctx, q)
		return err
	}, func(t *tabwriter.Writer, p futago.EventPage) {
		row(t, "ID", "TIME", "SEVERITY", "KIND", "SOURCE", "SEEN BY", "COUNT", "MESSAGE")
		for _, ev := range p.Events {
			eventRow(t, ev)
		}
		if p.Next > 0 {
			fmt.Fprintf(t, "\nMore: --before %d\n", p.Next)
		}
		if !p.Complete {
			fmt.Fprintln(t, "The search ran out of time; the next page goes on.")
		}
	})
}

func eventRow(t *tabwriter.Writer, ev futago.Event) {
	host := "-" // an event of Futago itself comes from no address
	if ev.Trap.Source.IsValid() {
		host = ev.Trap.Source.Addr().String()
	}
	if ev.Trap.Host != "" && ev.Trap.Host != host {
		host += " (" + printable(ev.Trap.Host) + ")"
	}
	row(t, ev.ID, ev.At.Local().Format("01-02 15:04:05.000"), ev.Trap.Severity, ev.Trap.Kind, host, seenBy(ev), ev.Count, printable(ev.Trap.Message))
}

func seenBy(ev futago.Event) string {
	var s []string
	for _, r := range ev.Receipts {
		s = append(s, string(r.Member))
	}
	return strings.Join(s, ",")
}

// printable keeps what a sender wrote from steering the operator's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x20:
			return '\u2400' + r // its picture, U+2400 to U+241F
		case r == 0x7f:
			return '\u2421'
		case r >= 0x80 && r < 0xa0, unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return '\ufffd'
		default:
			return r
		}
	}, s)
}

// follow prints what comes. A manager that does not answer at all is told at
// once; one that goes away later is waited for.
func (c *eventsCmd) follow(e *env, q futago.EventQuery) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	newest := q
	newest.Limit = 1
	p, err := cl.Events(e.ctx, newest)
	if err != nil {
		return err
	}
	if len(p.Events) > 0 {
		q.After = p.Events[0].ID
	}
	t := tabwriter.NewWriter(e.out, 0, 8, 2, ' ', 0)
	return cl.Follow(e.ctx, q, func(ev futago.Event) error {
		if e.global.Output == "json" {
			return json.NewEncoder(e.out).Encode(ev)
		}
		eventRow(t, ev)
		return t.Flush()
	})
}

type eventCmd struct {
	ID uint64 `arg:"" help:"Id of the event, from futago events."`
}

// Help shows examples.
func (*eventCmd) Help() string { return examples("futago event 4711", "futago event 4711 -o json") }

// Run shows all that is known of one event.
func (c *eventCmd) Run(e *env) error {
	return call(e, func(cl *client.Client, out *futago.Event) error {
		return cl.Get(e.ctx, fmt.Sprintf("%s/%d", client.EventsPath, c.ID), nil, out)
	}, func(t *tabwriter.Writer, ev futago.Event) {
		row(t, "Event", ev.ID)
		row(t, "Message", printable(ev.Trap.Message))
		row(t, "Kind", fmt.Sprintf("%s over %s from %s", ev.Trap.Kind, ev.Trap.Transport, ev.Trap.Source))
		row(t, "Severity", ev.Trap.Severity)
		row(t, "Occurred", fmt.Sprintf("%d times, %d copies received; last judged %s", ev.Count, ev.Copies, ev.Reason))
		for _, r := range ev.Receipts {
			row(t, "Received by "+string(r.Member), fmt.Sprintf("%d times, first %s, last %s", r.Count,
				r.First.Local().Format(time.RFC3339Nano), r.Last.Local().Format(time.RFC3339Nano)))
		}
		if ev.Trap.Problem != "" {
			row(t, "Problem", printable(ev.Trap.Problem))
		}
		detail, err := json.MarshalIndent(struct {
			Syslog *futago.SyslogFields `json:"syslog,omitempty"`
			SNMP   *futago.SNMPFields   `json:"snmp,omitempty"`
			Custom *futago.CustomFields `json:"custom,omitempty"`
		}{ev.Trap.Syslog, ev.Trap.SNMP, ev.Trap.Custom}, "", "  ")
		if err == nil {
			for i, line := range strings.Split(string(detail), "\n") {
				row(t, []string{"Fields", ""}[min(i, 1)], printable(line))
			}
		}
		row(t, "Raw", fmt.Sprintf("%q", ev.Trap.Raw))
	})
}
