package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/futago/futago"
	"github.com/futago/futago/account"
)

const streamURL = "/api/v1/events/stream"

// reader is a client of a stream over a real connection.
type reader struct {
	res    *http.Response
	sc     *bufio.Scanner
	cancel context.CancelFunc
	lastID string
}

func (s *server) follow(t *testing.T, query string, header http.Header) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+streamURL+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	r.Header.Set("Authorization", "Bearer "+s.tokens[futago.RoleViewer])
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(res.Body)
		t.Fatalf("status %d, %s: %s", res.StatusCode, res.Header.Get("Content-Type"), b)
	}
	rd := &reader{res: res, sc: bufio.NewScanner(res.Body), cancel: cancel}
	rd.sc.Buffer(nil, 1<<20)
	if got := rd.block(t); !strings.Contains(got, ": following") {
		t.Fatalf("the stream begins with %q", got)
	}
	return rd
}

// block reads up to the next empty line.
func (r *reader) block(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for r.sc.Scan() {
		line := r.sc.Text()
		if line == "" {
			return b.String()
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			r.lastID = id
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// events reads n events.
func (r *reader) events(t *testing.T, n int) (out []string) {
	t.Helper()
	for len(out) < n {
		block := r.block(t)
		if block == "" {
			t.Fatalf("the stream ended after %d of %d events: %v", len(out), n, r.sc.Err())
		}
		_, data, ok := strings.Cut(block, "data: ")
		if !ok {
			continue
		}
		var e futago.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if strconv.FormatUint(e.ID, 10) != r.lastID {
			t.Errorf("event %d under id %s", e.ID, r.lastID)
		}
		out = append(out, e.Trap.Message)
	}
	return out
}

func many(from, to int) (events []futago.Event, messages []string) {
	for i := from; i <= to; i++ {
		m := fmt.Sprintf("message %d", i)
		events, messages = append(events, trap(futago.KindSyslog, m)), append(messages, m)
	}
	return events, messages
}

func TestFollow(t *testing.T) {
	s := newServer(t)
	old, _ := many(1, 3)
	s.fake.add(old...)
	r := s.follow(t, "", nil) // begins with what comes next
	fresh, want := many(4, 500)
	s.fake.add(fresh...) // several pages at once
	if diff := cmp.Diff(want, r.events(t, len(want))); diff != "" {
		t.Error(diff)
	}
	s.fake.add(trap(futago.KindSNMPTrap, "one more"))
	if got := r.events(t, 1); got[0] != "one more" {
		t.Errorf("got %q", got)
	}
	if r.lastID != "501" {
		t.Errorf("cursor %s", r.lastID)
	}
}

func TestFollowFromCursor(t *testing.T) {
	s := newServer(t)
	events, all := many(1, 10)
	s.fake.add(events...)
	for name, c := range map[string]struct {
		query  string
		header http.Header
		want   []string
	}{
		"after":               {"?after=8", nil, all[8:]},
		"last event":          {"", http.Header{"Last-Event-Id": {"7"}}, all[7:]},
		"last event wins":     {"?after=1", http.Header{"Last-Event-Id": {"9"}}, all[9:]},
		"from the beginning":  {"", http.Header{"Last-Event-Id": {"0"}}, all},
		"list's parameters":   {"?after=9&limit=50&order=asc&before=3", nil, all[9:]},
		"cursor of an update": {"?after=9", nil, all[9:]},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, s.follow(t, c.query, c.header).events(t, len(c.want))); diff != "" {
				t.Error(diff)
			}
		})
	}
	wantProblem(t, s.do(t, request{path: streamURL, token: s.tokens["viewer"], header: http.Header{"Last-Event-Id": {"x"}}}), 422, futago.CodeInvalid)
}

// TestFollowFilters: what does not match is not sent, and yet the cursor moves
// past it, so that a reader which comes again does not search it again.
func TestFollowFilters(t *testing.T) {
	s := newServer(t)
	r := s.follow(t, "?kind=snmptrap", nil)
	if r.lastID != "0" {
		t.Errorf("an empty history has cursor %s", r.lastID)
	}
	events, _ := many(1, 50)
	s.fake.add(events...)
	s.fake.add(trap(futago.KindSNMPTrap, "cold start"))
	if got := r.events(t, 1); got[0] != "cold start" || r.lastID != "51" {
		t.Errorf("got %q at %s", got, r.lastID)
	}
}

func TestFollowEndsWithAnExplanation(t *testing.T) {
	for name, end := range map[string]func(s *server){
		"close":        func(s *server) { _ = s.api.Close(); _ = s.api.Close() },
		"backend ends": func(s *server) { close(s.fake.stopped) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r := s.follow(t, "", nil)
			end(s)
			if got := r.block(t); !strings.HasPrefix(got, ": end: this manager is shutting down") {
				t.Errorf("the last word is %q", got)
			}
			if r.sc.Scan() {
				t.Errorf("the stream goes on with %q", r.sc.Text())
			}
		})
	}
	t.Run("error", func(t *testing.T) {
		s := newServer(t)
		r := s.follow(t, "", nil)
		s.fake.mu.Lock()
		s.fake.readErr = futago.Errorf(futago.CodeUnavailable, "this member does\nnot take part now").WithAction("try again")
		s.fake.mu.Unlock()
		s.fake.add(trap(futago.KindSyslog, "x"))
		if got, want := r.block(t), ": end: unavailable: this member does not take part now; try again\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("afterwards", func(t *testing.T) {
		s := newServer(t)
		_ = s.api.Close()
		wantProblem(t, s.get(t, streamURL), 503, futago.CodeUnavailable)
		wantStatus(t, s.get(t, "/api/v1/events"), 200)
	})
}

// TestHeadOfAStream: it ends, and takes no place.
func TestHeadOfAStream(t *testing.T) {
	s := newServer(t)
	a := s.do(t, request{method: http.MethodHead, path: streamURL, token: s.tokens["viewer"]})
	if a.status != 200 || a.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d, %v", a.status, a.header)
	}
	wantStatus(t, s.with(t, s.session(t), http.MethodHead, "/live", nil), 200)
	waitFor(t, "end", func() bool { return strings.Contains(string(s.get(t, "/metrics").body), "\nfutago_http_streams 0\n") })
}

func TestTooManyStreams(t *testing.T) {
	s := newServer(t)
	var readers []*reader
	for range 256 {
		readers = append(readers, s.follow(t, "", nil))
	}
	if p := wantProblem(t, s.get(t, streamURL), 503, futago.CodeUnavailable); !strings.Contains(p.Detail, "256") {
		t.Errorf("got %q", p.Detail)
	}
	if a := s.with(t, s.session(t), "GET", "/live", nil); a.status != 503 {
		t.Errorf("the console's stream gets %d", a.status)
	}
	readers[0].cancel()
	waitFor(t, "a place", func() bool {
		status, _ := s.status(t, "GET", streamURL, s.tokens["viewer"])
		return status == 200
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within ten seconds", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// memory is a response that is kept, with a reader as slow as the test wants.
type memory struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	header http.Header
	slow   time.Duration // for each write
	fail   bool
}

func (m *memory) Header() http.Header { return m.header }
func (m *memory) WriteHeader(int)     {}
func (m *memory) FlushError() error   { return nil }

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	slow, fail := m.slow, m.fail
	m.mu.Unlock()
	time.Sleep(slow)
	if fail {
		return 0, errors.New("broken pipe")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.buf.Write(p)
}

func (m *memory) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.buf.String()
}

func (m *memory) set(slow time.Duration, fail bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slow, m.fail = slow, fail
}

// bubble runs a stream on a clock of its own. It returns the response, which
// goes on, and the API.
func bubble(t *testing.T, f *fake, query string) (m *memory, done chan struct{}, revoke func()) {
	t.Helper()
	api := newAPI(t, f, time.Now)
	id, text, hash := account.NewToken()
	f.tokens[id] = futago.Token{ID: id, Name: "x", Role: futago.RoleViewer, SecretHash: hash}
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, streamURL+query, http.NoBody)
	r.Header.Set("Authorization", "Bearer "+text)
	m, done = &memory{header: http.Header{}}, make(chan struct{})
	go func() {
		defer close(done)
		api.Handler().ServeHTTP(m, r)
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return m, done, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.tokens, id)
	}
}

// wantEnd waits for the end of a stream within a minute of the bubble's time.
func wantEnd(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the stream goes on")
	}
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		m, done, revoke := bubble(t, f, "")
		time.Sleep(46 * time.Second)
		synctest.Wait()
		if got := strings.Count(m.text(), ": alive\n\n"); got != 3 {
			t.Errorf("%d signs of life in 46 s: %q", got, m.text())
		}
		// A token that is removed ends its streams at the next one.
		revoke()
		time.Sleep(15 * time.Second)
		wantEnd(t, done)
		if !strings.HasSuffix(m.text(), ": end: the token is not valid; make one with futago token create\n\n") {
			t.Errorf("got %q", m.text())
		}
	})
}

// TestCursorPassesWhatDoesNotMatch: a reader that comes again does not have all
// of it searched once more.
func TestCursorPassesWhatDoesNotMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		m, _, _ := bubble(t, f, "?kind=snmptrap")
		events, _ := many(1, 50)
		f.add(events...)
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if !strings.HasSuffix(m.text(), "id: 50\n: alive\n\n") {
			t.Errorf("got %q", m.text())
		}
	})
}

func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		m, done, _ := bubble(t, f, "")
		m.set(9*time.Second, false)
		f.add(trap(futago.KindSyslog, "within the bound"))
		time.Sleep(14 * time.Second)
		synctest.Wait()
		if !strings.Contains(m.text(), "within the bound") {
			t.Fatalf("got %q", m.text())
		}
		m.set(11*time.Second, false)
		f.add(trap(futago.KindSyslog, "too slow"))
		wantEnd(t, done)
		if got := m.text(); !strings.Contains(got, "too slow") || !strings.HasSuffix(got, ": end: the reader took 11s for one page; go on from id 2\n\n") {
			t.Errorf("got %q", got)
		}
	})
}

func TestReaderThatHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		m, done, _ := bubble(t, f, "")
		m.set(0, true)
		f.add(trap(futago.KindSyslog, "x"))
		wantEnd(t, done)
	})
}

// searching is a Backend whose searches run out of time at each tenth event.
type searching struct{ *fake }

func (b searching) Events(ctx context.Context, q futago.EventQuery) (futago.EventPage, error) {
	p, err := b.fake.Events(ctx, q)
	if q.Ascending && len(q.Kinds) > 0 {
		b.mu.Lock()
		newest := uint64(len(b.events))
		b.mu.Unlock()
		upTo := min(q.After/10*10+10, newest)
		p.Events = slices.DeleteFunc(p.Events, func(e futago.Event) bool { return e.ID > upTo })
		p.Next, p.Complete = 0, upTo == newest
		if !p.Complete {
			p.Next = upTo
		}
	}
	return p, err
}

func TestUnfinishedSearchesGoOn(t *testing.T) {
	f := newFake()
	s := serveAs(t, f, searching{f})
	events, _ := many(1, 95)
	f.add(append(events, trap(futago.KindSNMPTrap, "found"))...)
	r := s.follow(t, "?kind=snmptrap&after=1", nil)
	if got := r.events(t, 1); got[0] != "found" {
		t.Errorf("got %q", got)
	}
}
