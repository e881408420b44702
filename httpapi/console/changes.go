package console

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/futago/futago"
)

// The live page holds one stream that says when a part is worth fetching again.
// It carries no data, so a burst of events costs a browser two small pages a
// second and not a message for each of them.
const (
	eventsEvery = 500 * time.Millisecond
	statusEvery = 2 * time.Second
	checkEvery  = 15 * time.Second
	writeWithin = 10 * time.Second
)

// changes streams "events" after commits, "status" every two seconds, and
// "sign-in" or "bye" at its end.
func (c *console) changes(w http.ResponseWriter, r *http.Request, who Caller) error {
	if r.Method == http.MethodHead {
		return nil // there is no body to follow
	}
	release, err := c.o.Stream()
	if err != nil {
		return err
	}
	defer release()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	send := func(name string) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(writeWithin)) // a recorder of a test has none
		_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, c.o.Backend.Member())
		return err == nil && rc.Flush() == nil
	}
	ctx := r.Context()
	changed := c.o.Backend.Subscribe(ctx)
	status := time.NewTicker(statusEvery)
	defer status.Stop()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	var pause <-chan time.Time // set while a change has just been told
	for ok := send("hello"); ok; {
		commits := changed
		if pause != nil {
			commits = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.o.Closing:
			send("bye")
			return nil
		case _, more := <-commits:
			if !more {
				send("bye")
				return nil
			}
			ok = send("events")
			pause = time.After(eventsEvery)
		case <-pause:
			pause = nil
		case <-status.C:
			ok = send("status")
		case <-check.C:
			if who.Check != nil && futago.CodeOf(who.Check(ctx)) == futago.CodeUnauthorized {
				send("sign-in")
				return nil
			}
		}
	}
	return nil
}

// asError is the error as the reader may see it.
func asError(err error) *futago.Error {
	if e, ok := errors.AsType[*futago.Error](err); ok {
		return e
	}
	return futago.Errorf(futago.CodeInternal, "internal error").WithAction("see this manager's log")
}
