package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/futago/futago"
)

// pageSize is how many events a page of the console shows.
const pageSize = 50

// liveBody is the live page.
type liveBody struct {
	Status statusBody
	Events eventsBody
}

// eventsBody is the table of events with its search form.
type eventsBody struct {
	Form   form
	Events []eventRow
	Newest uint64 // the largest id shown
	// Older and First are links to other pages, "" when there are none.
	Older, First string
	Complete     bool
	Problem      string // what was wrong with the search
	Action       string
}

// eventRow is an event with what each manager received of it.
type eventRow struct {
	futago.Event
	A, B *futago.Receipt
}

func rowOf(e futago.Event) eventRow {
	row := eventRow{Event: e}
	for i := range e.Receipts {
		switch e.Receipts[i].Member {
		case futago.MemberA:
			row.A = &e.Receipts[i]
		case futago.MemberB:
			row.B = &e.Receipts[i]
		default: // the third vote receives nothing
		}
	}
	return row
}

// form is the search form as it was filled in.
type form struct {
	Text, Kind, Severity, Source, Host, From, To string
	Before                                       uint64
}

// Live says that the table shows the newest events and renews itself.
func (f form) Live() bool { return f.Before == 0 && f.To == "" }

// Any says that something is searched for.
func (f form) Any() bool {
	f.Before = 0
	return f != form{}
}

func formOf(v url.Values) form {
	before, _ := strconv.ParseUint(v.Get("before"), 10, 64) // 0 when it is none: the newest
	get := func(k string) string { return typed(v.Get(k)) }
	return form{
		Text: get("text"), Kind: get("kind"), Severity: get("severity"), Source: get("source"), Host: get("host"),
		From: get("from"), To: get("to"), Before: before,
	}
}

// link is the page with this search from another cursor on.
func (f form) link(before uint64) string {
	v := url.Values{}
	for k, s := range map[string]string{
		"text": f.Text, "kind": f.Kind, "severity": f.Severity, "source": f.Source, "host": f.Host, "from": f.From, "to": f.To,
	} {
		if s != "" {
			v.Set(k, s)
		}
	}
	if before > 0 {
		v.Set("before", strconv.FormatUint(before, 10))
	}
	if len(v) == 0 {
		return "/"
	}
	return "/?" + v.Encode()
}

func (f form) query(now time.Time) (q futago.EventQuery, err error) {
	q = futago.EventQuery{Text: f.Text, Host: f.Host, Before: f.Before, Limit: pageSize}
	if f.Kind != "" {
		k, err := futago.ParseKind(f.Kind)
		if err != nil {
			return q, err
		}
		q.Kinds = []futago.Kind{k}
	}
	if f.Severity != "" {
		s, err := futago.ParseSeverity(f.Severity)
		if err != nil {
			return q, err
		}
		q.MaxSeverity = &s
	}
	if f.Source != "" {
		if q.Source, err = futago.ParsePrefix(f.Source); err != nil {
			return q, err
		}
	}
	if q.From, err = parseTime(f.From, now); err != nil {
		return q, err
	}
	q.To, err = parseTime(f.To, now)
	return q, err
}

// parseTime reads a time in UTC, or a duration that reaches back from now.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, futago.Errorf(futago.CodeInvalid, "%q is no time", s).
		WithAction("write it like 2026-11-22 03:00 (UTC), 2026-11-22T03:00:00+09:00, or 15m for fifteen minutes ago")
}

// events makes the table. A wrong search is shown beside its form, not as a
// page of its own.
func (c *console) events(ctx context.Context, v url.Values) (eventsBody, error) {
	b := eventsBody{Form: formOf(v), Complete: true}
	q, err := b.Form.query(c.o.Now())
	var p futago.EventPage
	if err == nil {
		p, err = c.o.Backend.Events(ctx, q)
	}
	switch {
	case futago.CodeOf(err) == futago.CodeInvalid:
		e := asError(err)
		b.Problem, b.Action = e.Message, e.Action
		return b, nil
	case err != nil:
		return b, err
	}
	b.Complete = p.Complete
	for _, e := range p.Events {
		b.Newest = max(b.Newest, e.ID)
		b.Events = append(b.Events, rowOf(e))
	}
	if p.Next > 0 {
		b.Older = b.Form.link(p.Next)
	}
	if b.Form.Before > 0 {
		b.First = b.Form.link(0)
	}
	return b, nil
}

func (c *console) live(w http.ResponseWriter, r *http.Request, who Caller) error {
	body := liveBody{Status: c.statusOf(r)}
	var err error
	if body.Events, err = c.events(r.Context(), r.URL.Query()); err != nil {
		// The state of the cluster is what one looks for now.
		e := asError(err)
		body.Events.Problem, body.Events.Action = e.Message, e.Action
		c.log.Debug("no events for the live page", "err", err)
	}
	c.render(w, http.StatusOK, "live", page{
		Title: string(body.Status.Redundancy), Caller: who, Refresh: true, Body: body,
	})
	return nil
}

func (c *console) eventsPart(w http.ResponseWriter, r *http.Request, _ Caller) error {
	b, err := c.events(r.Context(), r.URL.Query())
	if err != nil {
		return err
	}
	c.write(w, http.StatusOK, c.pages["live"], "events", b)
	return nil
}

func (c *console) statusPart(w http.ResponseWriter, r *http.Request, _ Caller) error {
	c.write(w, http.StatusOK, c.pages["live"], "status", c.statusOf(r))
	return nil
}

func (c *console) event(w http.ResponseWriter, r *http.Request, who Caller) error {
	id, err := strconv.ParseUint(chi.URLParam(r, "id"), 10, 64)
	if err != nil {
		return futago.Errorf(futago.CodeNotFound, "there is no such event").WithAction("go back to the list")
	}
	e, err := c.o.Backend.Event(r.Context(), id)
	if err != nil {
		return err
	}
	slices.SortFunc(e.Receipts, func(a, b futago.Receipt) int { return strings.Compare(string(a.Member), string(b.Member)) })
	c.render(w, http.StatusOK, "event", page{Title: "Event " + strconv.FormatUint(id, 10), Caller: who, Body: rowOf(e)})
	return nil
}
