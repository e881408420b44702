package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/futago/futago"
)

// Bounds of live streams. A stream holds no queue: it reads the database from
// its cursor on, so a slow reader costs a connection and no memory.
const (
	maxStreams      = 256
	streamPage      = 100                   // events read at once
	streamChunk     = 256 << 10             // bytes gathered before they are sent
	streamPause     = 50 * time.Millisecond // between two looks at the database
	streamHeartbeat = 15 * time.Second
	streamSlow      = 10 * time.Second // to take a page; beyond it the reader is too slow
	streamDead      = 30 * time.Second // and beyond this it is taken for gone
)

// consoleLive is the console's own stream, for the metrics.
const consoleLive = "/live"

// openStream takes one of the places for live streams; release gives it back.
func (a *API) openStream() (release func(), err error) {
	select {
	case <-a.closing:
		return nil, futago.Errorf(futago.CodeUnavailable, "this manager is shutting down").WithAction("follow the other manager")
	default:
	}
	select {
	case a.streams <- struct{}{}:
		a.metrics.streams.Inc()
		return func() {
			<-a.streams
			a.metrics.streams.Dec()
		}, nil
	default:
		return nil, futago.Errorf(futago.CodeUnavailable, "%d live streams are open already", maxStreams).
			WithAction("follow the other manager, or close streams that nobody reads")
	}
}

type streamInput struct {
	EventFilter
	After       uint64 `query:"after" doc:"Cursor: begin with the event after this one. Without it, and without Last-Event-ID, the stream begins with what comes next."`
	LastEventID string `header:"Last-Event-ID" pattern:"^[0-9]{1,20}$" patternDescription:"an event id" doc:"Cursor that browsers send when they connect again; it counts more than after."`
	// The rest is there so that the parameters of a list fit a stream.
	Before uint64 `query:"before" doc:"Without effect."`
	Order  string `query:"order" enum:"desc,asc" doc:"Without effect: a stream is in the order of the ids."`
	Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"Without effect."`
}

type streamOutput struct {
	Body func(huma.Context)
}

func (a *API) streamOperation(api huma.API) {
	op := huma.Operation{
		OperationID: "follow-events", Path: streamPath, Tags: []string{"events"}, Summary: "Follow events as they are recorded",
		Description: "Server-sent events: id is the cursor, data is one event as JSON. Each event is sent once, when it is recorded; " +
			"receipts that come later are not sent. A comment comes every 15 s when nothing else does. " +
			"When the manager ends a stream, the last comment says why; go on with Last-Event-ID or after, at either manager.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The stream", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}
	read(a, api, op, futago.RoleViewer, func(ctx context.Context, in *streamInput) (*streamOutput, error) {
		q, err := in.query()
		if err != nil {
			return nil, err
		}
		q.Before, q.Limit, q.Ascending = 0, streamPage, true
		release, err := a.openStream()
		if err != nil {
			return nil, err
		}
		cursor, err := a.begin(ctx, in)
		if err != nil {
			release()
			return nil, err
		}
		return &streamOutput{Body: func(hc huma.Context) {
			defer release()
			r, w := humachi.Unwrap(hc)
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Type", "text/event-stream")
				return // there is no body to follow
			}
			f := &follower{api: a, w: w, rc: http.NewResponseController(w), q: q, cursor: cursor, check: callerOf(ctx).check}
			f.run(hc.Context()) //nolint:contextcheck // the request's own, which is not bounded in time
		}}, nil
	})
}

// begin finds the cursor that a stream starts from.
func (a *API) begin(ctx context.Context, in *streamInput) (uint64, error) {
	if in.LastEventID != "" {
		n, err := strconv.ParseUint(in.LastEventID, 10, 64)
		if err != nil {
			return 0, invalid("header.Last-Event-ID", err)
		}
		return n, nil
	}
	if in.After > 0 {
		return in.After, nil
	}
	return a.newest(ctx)
}

// newest is the id of the newest event, 0 when there is none.
func (a *API) newest(ctx context.Context) (uint64, error) {
	p, err := a.o.Backend.Events(ctx, futago.EventQuery{Limit: 1})
	if err != nil || len(p.Events) == 0 {
		return 0, err
	}
	return p.Events[0].ID, nil
}

// follower writes one stream.
type follower struct {
	api    *API
	w      http.ResponseWriter
	rc     *http.ResponseController
	q      futago.EventQuery
	cursor uint64
	check  func(context.Context) error

	changed   <-chan struct{}
	heartbeat *time.Ticker
	buf       bytes.Buffer
	writing   time.Duration // spent on sending the present page
}

// ending is why a stream ended: a reason for the metrics, "" for none yet, and
// a sentence for the reader.
type ending struct{ reason, why string }

func (f *follower) run(ctx context.Context) {
	h := f.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies that buffer would hold events back
	f.w.WriteHeader(http.StatusOK)
	end := f.follow(ctx)
	f.api.metrics.ended.WithLabelValues(end.reason).Inc()
	if end.reason == "client" {
		return
	}
	f.api.log.Info("live stream ended", "reason", end.reason, "why", end.why, "cursor", f.cursor)
	f.buf.Reset()
	fmt.Fprintf(&f.buf, ": end: %s\n\n", oneLine(end.why))
	_ = f.flush() // a reader that has gone needs no explanation
}

// follow sends events until something ends it.
func (f *follower) follow(ctx context.Context) ending {
	f.changed = f.api.o.Backend.Subscribe(ctx)
	f.heartbeat = time.NewTicker(streamHeartbeat)
	defer f.heartbeat.Stop()
	// The cursor goes out first, so that a reader that is cut off before its
	// first event knows where to go on.
	fmt.Fprintf(&f.buf, "retry: 2000\nid: %d\n: following\n\n", f.cursor)
	for {
		more, err := f.page(ctx)
		if err == nil {
			err = f.flush()
		}
		if end := f.judge(ctx, err); end.reason != "" {
			return end
		}
		if end := f.wait(ctx, more); end.reason != "" {
			return end
		}
	}
}

// judge tells whether a page that was sent ends the stream.
func (f *follower) judge(ctx context.Context, err error) ending {
	switch {
	case ctx.Err() != nil:
		return ending{"client", ""}
	case errors.Is(err, errReader):
		return ending{"slow", "the reader has gone or takes nothing"}
	case err != nil:
		p := f.api.problem(ctx, err)
		return ending{"error", fmt.Sprintf("%s: %s; %s", p.Code, p.Detail, p.Action)}
	case f.writing > streamSlow:
		return ending{"slow", fmt.Sprintf("the reader took %s for one page; go on from id %d", f.writing.Round(time.Second), f.cursor)}
	}
	return ending{}
}

// wait returns when there may be something to send: at once when more is known
// to be there, else after a change. It keeps the stream alive meanwhile.
func (f *follower) wait(ctx context.Context, more bool) ending {
	var now <-chan time.Time
	changed := f.changed
	if more {
		now = time.After(0)
	} else {
		// Commits come in tens a second; one look serves several.
		pause := time.NewTimer(streamPause)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ending{"client", ""}
		case <-f.api.closing:
			return ending{"shutdown", "this manager is shutting down; follow the other one"}
		case <-f.heartbeat.C:
			if why := f.recheck(ctx); why != "" {
				return ending{"credentials", why}
			}
			fmt.Fprintf(&f.buf, "id: %d\n: alive\n\n", f.cursor)
			if err := f.flush(); err != nil {
				return f.judge(ctx, err)
			}
		case _, ok := <-changed:
			if !ok {
				changed = nil
				if ctx.Err() == nil {
					return ending{"shutdown", "this manager is shutting down; follow the other one"}
				}
				continue
			}
			return ending{}
		case <-now:
			return ending{}
		}
	}
}

// recheck tells why the reader's credentials are no longer good. That they
// cannot be checked now is no reason.
func (f *follower) recheck(ctx context.Context) (why string) {
	if f.check == nil {
		return ""
	}
	if err := f.check(ctx); futago.CodeOf(err) == futago.CodeUnauthorized {
		return err.Error()
	}
	return ""
}

// page reads the next events and sends them; more says that others wait.
func (f *follower) page(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	f.writing = 0
	// Whatever is there now and does not match will not match later, so the
	// next look starts after it.
	newest, err := f.api.newest(ctx)
	if err != nil || newest <= f.cursor {
		return false, err
	}
	f.q.After = f.cursor
	p, err := f.api.o.Backend.Events(ctx, f.q)
	if err != nil {
		return false, err
	}
	for i := range p.Events {
		e := &p.Events[i]
		data, err := json.Marshal(e)
		if err != nil {
			return false, fmt.Errorf("event %d: %w", e.ID, err)
		}
		fmt.Fprintf(&f.buf, "id: %d\ndata: %s\n\n", e.ID, data)
		f.cursor = e.ID
		if f.buf.Len() > streamChunk {
			if err := f.flush(); err != nil {
				return false, err
			}
		}
	}
	if p.Next == 0 {
		f.cursor = max(f.cursor, newest)
		return false, nil
	}
	f.cursor = max(f.cursor, p.Next)
	if len(p.Events) == 0 {
		fmt.Fprintf(&f.buf, "id: %d\n: searching\n\n", f.cursor)
	}
	return true, nil
}

// errReader is a reader that cannot be written to.
var errReader = errors.New("write to the reader")

// flush sends the buffer.
func (f *follower) flush() error {
	if f.buf.Len() == 0 {
		return nil
	}
	start := time.Now()
	_ = f.rc.SetWriteDeadline(start.Add(streamDead)) // a recorder of a test has none
	_, err := f.w.Write(f.buf.Bytes())
	f.buf.Reset()
	if err == nil {
		err = f.rc.Flush()
	}
	f.writing += time.Since(start)
	if err != nil {
		return fmt.Errorf("%w: %w", errReader, err)
	}
	// HTTP/2 resets a stream whose deadline passes, even when nothing is being
	// written; the next look may take a while.
	_ = f.rc.SetWriteDeadline(time.Time{})
	return nil
}

// oneLine keeps an explanation within its comment.
func oneLine(s string) string {
	return string(bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, []byte(s)))
}
