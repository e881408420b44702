package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/futago/futago"
)

// EventsPath lists events; a single one is below it.
const EventsPath = "/api/v1/events"

// QueryValues writes a query as the API's parameters.
func QueryValues(q futago.EventQuery) url.Values {
	v := url.Values{}
	set := func(k, s string) {
		if s != "" {
			v.Set(k, s)
		}
	}
	if !q.From.IsZero() {
		set("from", q.From.UTC().Format(time.RFC3339Nano))
	}
	if !q.To.IsZero() {
		set("to", q.To.UTC().Format(time.RFC3339Nano))
	}
	for _, k := range q.Kinds {
		v.Add("kind", k.String())
	}
	if q.MaxSeverity != nil {
		set("severity", q.MaxSeverity.String())
	}
	if q.Source.IsValid() {
		set("source", q.Source.String())
	}
	set("host", q.Host)
	set("text", q.Text)
	for k, n := range map[string]uint64{"before": q.Before, "after": q.After, "limit": uint64(q.Limit)} {
		if n > 0 {
			v.Set(k, strconv.FormatUint(n, 10))
		}
	}
	if q.Ascending {
		v.Set("order", "asc")
	}
	return v
}

// Events returns one page.
func (c *Client) Events(ctx context.Context, q futago.EventQuery) (p futago.EventPage, err error) {
	err = c.Get(ctx, EventsPath, QueryValues(q), &p)
	return p, err
}

// Status returns the cluster's status.
func (c *Client) Status(ctx context.Context) (s futago.ClusterStatus, err error) {
	err = c.Get(ctx, "/api/v1/status", nil, &s)
	return s, err
}

// Follow calls f with each event that is recorded after the cursor, in order,
// until ctx ends or f fails. A broken stream is taken up again where it ended,
// at whatever manager answers. An event whose receipts change later is not
// sent again.
func (c *Client) Follow(ctx context.Context, q futago.EventQuery, f func(futago.Event) error) error {
	for i := 0; ; i++ {
		err := c.follow(ctx, c.base[i%len(c.base)], &q, f)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the stream broke because the caller ended it
		}
		if s, ok := errors.AsType[*stopError](err); ok {
			return s.err
		}
		if p, ok := errors.AsType[*problemError](err); ok && p.Code != futago.CodeUnavailable {
			return p.err()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// stopError carries the error of the caller's function out of follow.
type stopError struct{ err error }

func (s *stopError) Error() string { return s.err.Error() }

func (c *Client) follow(ctx context.Context, base string, q *futago.EventQuery, f func(futago.Event) error) error {
	req, err := c.request(ctx, http.MethodGet, base, EventsPath+"/stream?"+QueryValues(*q).Encode(), nil, "")
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return problem(res)
	}
	cursor := q.After
	sc := bufio.NewScanner(res.Body)
	sc.Buffer(nil, 8<<20)
	for sc.Scan() {
		// While nothing matches, the cursor moves on all the same.
		if id, ok := strings.CutPrefix(sc.Text(), "id:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(id), 10, 64); err == nil {
				cursor = n
			}
			continue
		}
		data, ok := strings.CutPrefix(sc.Text(), "data:")
		if !ok {
			if sc.Text() == "" {
				q.After = cursor
			}
			continue
		}
		var e futago.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return err
		}
		if err := f(e); err != nil {
			return &stopError{err}
		}
		q.After = e.ID
	}
	return sc.Err()
}
