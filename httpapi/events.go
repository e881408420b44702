package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/futago/futago"
)

const (
	eventsPath = "/api/v1/events"
	streamPath = eventsPath + "/stream"
)

// EventFilter is what lists and streams of events select by.
type EventFilter struct {
	From     time.Time `query:"from" doc:"Arrived at this time or later (RFC 3339)." example:"2026-11-22T03:00:00Z"`
	To       time.Time `query:"to" doc:"Arrived before this time."`
	Kind     []string  `query:"kind,explode" enum:"syslog,snmptrap,customtrap,internal" doc:"Of these kinds; repeat it for several."`
	Severity string    `query:"severity" enum:"emerg,alert,crit,err,warning,notice,info,debug" doc:"At least this severe."`
	Source   string    `query:"source" maxLength:"64" doc:"Sent from this address, or from the addresses of this prefix." example:"192.0.2.0/24"`
	Host     string    `query:"host" maxLength:"255" doc:"Whose message names this host."`
	Text     string    `query:"text" maxLength:"1000" doc:"Words that must all occur, \"quoted phrases\", and word* for a beginning."`
}

// query turns the parameters into the domain's query.
func (f EventFilter) query() (q futago.EventQuery, err error) {
	q = futago.EventQuery{From: f.From, To: f.To, Host: f.Host, Text: f.Text}
	for _, s := range f.Kind {
		k, err := futago.ParseKind(s)
		if err != nil {
			return q, invalid("query.kind", err)
		}
		q.Kinds = append(q.Kinds, k)
	}
	if f.Severity != "" {
		s, err := futago.ParseSeverity(f.Severity)
		if err != nil {
			return q, invalid("query.severity", err)
		}
		q.MaxSeverity = &s
	}
	if f.Source != "" {
		if q.Source, err = futago.ParsePrefix(f.Source); err != nil {
			return q, invalid("query.source", err)
		}
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return q, futago.Errorf(futago.CodeInvalid, "query.to: is not after from").WithAction("swap them")
	}
	return q, nil
}

func (a *API) eventOperations(api huma.API) {
	tags := []string{"events"}
	type listInput struct {
		EventFilter
		Before uint64 `query:"before" doc:"Cursor: events older than the one with this id."`
		After  uint64 `query:"after" doc:"Cursor: events newer than the one with this id."`
		Order  string `query:"order" enum:"desc,asc" default:"desc" doc:"Newest first, or oldest first."`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Size of the page."`
		Consistent
	}
	read(a, api, huma.Operation{
		OperationID: "list-events", Path: eventsPath, Tags: tags, Summary: "List and search events",
		Description: "One page. When next is set, it is the cursor of the next page: before it, or after it when the order is asc. " +
			"When complete is false the search ran out of time, and next goes on from there.",
	}, futago.RoleViewer, func(ctx context.Context, in *listInput) (*body[futago.EventPage], error) {
		q, err := in.query()
		if err != nil {
			return nil, err
		}
		q.Before, q.After, q.Limit, q.Ascending = in.Before, in.After, in.Limit, in.Order == "asc"
		if err := a.verify(ctx, in.Consistent); err != nil {
			return nil, err
		}
		page, err := a.o.Backend.Events(ctx, q)
		if page.Events == nil {
			page.Events = []futago.Event{}
		}
		return &body[futago.EventPage]{page}, err
	})
	op := huma.Operation{
		OperationID: "get-event", Path: eventsPath + "/{id}", Tags: tags, Summary: "One event",
		Description: "All that is known of an event, with its receipts and the bytes as they arrived (base64).",
	}
	errorsOf(&op, http.StatusNotFound)
	read(a, api, op, futago.RoleViewer, func(ctx context.Context, in *struct {
		ID uint64 `path:"id" minimum:"1"`
		Consistent
	},
	) (*body[futago.Event], error) {
		if err := a.verify(ctx, in.Consistent); err != nil {
			return nil, err
		}
		e, err := a.o.Backend.Event(ctx, in.ID)
		return &body[futago.Event]{e}, err
	})
	a.streamOperation(api)
}
