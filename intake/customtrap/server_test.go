package customtrap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/spool"
)

var (
	_ Producer = (*spool.Producer)(nil)
	_ Commits  = (*spool.Spool)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memSpool is a spool whose commitments the test controls.
type memSpool struct {
	mu     sync.Mutex
	recs   []futago.Received
	calls  int
	room   int // how many records fit; 0: any number
	hold   bool
	change chan struct{}
	lost   bool
}

func newMemSpool() *memSpool { return &memSpool{change: make(chan struct{})} }

func (s *memSpool) Append(recs []futago.Received) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	for i := range recs {
		recs[i].Seq = 0
		if s.room > 0 && len(s.recs) >= s.room {
			return uint64(len(s.recs)), errors.New("full")
		}
		recs[i].Seq = uint64(len(s.recs) + 1)
		r := recs[i]
		r.Raw = bytes.Clone(r.Raw)
		s.recs = append(s.recs, r)
	}
	return uint64(len(s.recs)), nil
}

func (s *memSpool) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = false
	close(s.change)
}

func (s *memSpool) WaitAcked(ctx context.Context, seq uint64) error {
	s.mu.Lock()
	hold, lost := s.hold, s.lost
	if seq > uint64(len(s.recs)) {
		panic("waiting for a record that is not there")
	}
	s.mu.Unlock()
	switch {
	case lost:
		return futago.Errorf(futago.CodeCorrupt, "lost")
	case !hold:
		return nil
	}
	select {
	case <-s.change:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *memSpool) raws() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.recs {
		out = append(out, string(r.Raw))
	}
	return out
}

// newServer is a server that is called without a network.
func newServer(t testing.TB, spool *memSpool, settings *futago.IntakeSettings) *Server {
	t.Helper()
	s, err := Listen(t.Context(), Config{
		Address: "127.0.0.1:0", Producer: spool, Commits: spool, Settings: func() *futago.IntakeSettings { return settings },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func post(s *Server, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/any/path", strings.NewReader(body))
	r.RemoteAddr = "[::ffff:192.0.2.7]:40000"
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func answer[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return v
}

const goodBody = `{"FacilityID":"rack1","DATA":[
	{"DATE":"2026-03-01 12:34:56","TYPE":"NUM","KEY":"temperature","MSG":"41.50"},
	{"TYPE":"NUM","KEY":"fan","MSG":1.20e3},
	{"KEY":"door","MSG":"<open> \u00e9","TYPE":"STRING","unit":{"b":1,"a":[2.0]}}]}`

func TestServer_Accepts(t *testing.T) {
	spool := newMemSpool()
	s := newServer(t, spool, &futago.IntakeSettings{})
	w := post(s, goodBody)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	got := answer[receipt](t, w)
	if got.Committed != 3 || got.FirstSeq != 1 || got.LastSeq != 3 || got.ReceivedAt.UnixNano() != spool.recs[0].At {
		t.Errorf("receipt %+v", got)
	}
	want := []string{
		`{"DATA":[{"DATE":"2026-03-01 12:34:56","KEY":"temperature","MSG":"41.50","TYPE":"NUM"}],"FacilityID":"rack1"}`,
		`{"DATA":[{"KEY":"fan","MSG":1.20e3,"TYPE":"NUM"}],"FacilityID":"rack1"}`,
		`{"DATA":[{"KEY":"door","MSG":"<open> é","TYPE":"STRING","unit":{"a":[2.0],"b":1}}],"FacilityID":"rack1"}`,
	}
	if !slices.Equal(spool.raws(), want) || spool.calls != 1 {
		t.Errorf("%d calls, records %q", spool.calls, spool.raws())
	}
	for _, r := range spool.recs {
		if r.Source != netip.MustParseAddrPort("192.0.2.7:40000") || r.Kind != futago.KindCustomTrap || r.Transport != futago.TransportHTTP {
			t.Errorf("record %+v", r)
		}
	}
	if st := s.Status(); st.Requests != 1 || st.Accepted != 1 || st.Elements != 3 || st.InWork != 0 {
		t.Errorf("status %+v", st)
	}
}

// malformed bodies, with the element that the answer must name.
var malformed = []struct {
	name, body, element string
	status              int
}{
	{"empty", "", "", 400},
	{"blank", " \n", "", 400},
	{"no JSON", `temperature=41`, "", 400},
	{"cut", `{"DATA":[{"TYPE":"NUM"`, "", 400},
	{"two values", `{"DATA":[]} {}`, "", 400},
	{"array", `[]`, "", 400},
	{"null", `null`, "", 400},
	{"not UTF-8", "{\"DATA\":[{\"TYPE\":\"STRING\",\"KEY\":\"k\",\"MSG\":\"\x82\xa0\"}]}", "", 400},
	{"no DATA", `{"FacilityID":"a"}`, "DATA", 400},
	{"wrong case", `{"data":[{"TYPE":"STRING","KEY":"k","MSG":"m"}]}`, "DATA", 400},
	{"null DATA", `{"DATA":null}`, "DATA", 400},
	{"DATA no array", `{"DATA":{"TYPE":"STRING","KEY":"k","MSG":"m"}}`, "DATA", 400},
	{"empty DATA", `{"DATA":[]}`, "DATA", 400},
	{"DATA twice", `{"DATA":[{"TYPE":"STRING","KEY":"k","MSG":"m"}],"DATA":[{"TYPE":"STRING","KEY":"k","MSG":"m"}]}`, "DATA", 400},
	{"FacilityID no string", `{"FacilityID":7,"DATA":[{"TYPE":"STRING","KEY":"k","MSG":"m"}]}`, "FacilityID", 400},
	{"FacilityID long", `{"FacilityID":"` + strings.Repeat("x", 513) + `","DATA":[{"TYPE":"STRING","KEY":"k","MSG":"m"}]}`, "FacilityID", 400},
	{"element no object", `{"DATA":[{"TYPE":"STRING","KEY":"k","MSG":"m"},5]}`, "DATA[1]", 400},
	{"no TYPE", `{"DATA":[{"KEY":"k","MSG":"m"}]}`, "DATA[0].TYPE", 400},
	{"TYPE unknown", `{"DATA":[{"TYPE":"num","KEY":"k","MSG":"1"}]}`, "DATA[0].TYPE", 400},
	{"TYPE no string", `{"DATA":[{"TYPE":1,"KEY":"k","MSG":"1"}]}`, "DATA[0].TYPE", 400},
	{"no KEY", `{"DATA":[{"TYPE":"STRING","MSG":"m"}]}`, "DATA[0].KEY", 400},
	{"KEY empty", `{"DATA":[{"TYPE":"STRING","KEY":"","MSG":"m"}]}`, "DATA[0].KEY", 400},
	{"KEY no string", `{"DATA":[{"TYPE":"STRING","KEY":["k"],"MSG":"m"}]}`, "DATA[0].KEY", 400},
	{"KEY twice", `{"DATA":[{"TYPE":"STRING","KEY":"k","KEY":"l","MSG":"m"}]}`, "DATA[0].KEY", 400},
	{"no MSG", `{"DATA":[{"TYPE":"STRING","KEY":"k"}]}`, "DATA[0].MSG", 400},
	{"MSG null", `{"DATA":[{"TYPE":"STRING","KEY":"k","MSG":null}]}`, "DATA[0].MSG", 400},
	{"MSG object", `{"DATA":[{"TYPE":"STRING","KEY":"k","MSG":{}}]}`, "DATA[0].MSG", 400},
	{"STRING with a number", `{"DATA":[{"TYPE":"STRING","KEY":"k","MSG":1}]}`, "DATA[0].MSG", 400},
	{"NUM with text", `{"DATA":[{"TYPE":"NUM","KEY":"k","MSG":"high"}]}`, "DATA[0].MSG", 400},
	{"NUM empty", `{"DATA":[{"TYPE":"NUM","KEY":"k","MSG":""}]}`, "DATA[0].MSG", 400},
	{"NUM true", `{"DATA":[{"TYPE":"NUM","KEY":"k","MSG":true}]}`, "DATA[0].MSG", 400},
	{"NUM too large", `{"DATA":[{"TYPE":"NUM","KEY":"k","MSG":1e400}]}`, "DATA[0].MSG", 400},
	{"DATE wrong", `{"DATA":[{"DATE":"yesterday","TYPE":"STRING","KEY":"k","MSG":"m"}]}`, "DATA[0].DATE", 400},
	{"DATE no string", `{"DATA":[{"DATE":1772332496,"TYPE":"STRING","KEY":"k","MSG":"m"}]}`, "DATA[0].DATE", 400},
	{"too many", `{"DATA":[0` + strings.Repeat(",0", MaxElements) + `]}`, "DATA", 413},
	{"deep", strings.Repeat("[", 100000), "", 400},
	{"deep member", `{"DATA":[{"TYPE":"STRING","KEY":"k","MSG":"m","x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}]}`, "", 400},
}

func TestServer_Malformed(t *testing.T) {
	spool := newMemSpool()
	s := newServer(t, spool, &futago.IntakeSettings{})
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			w := post(s, c.body)
			p := answer[problem](t, w)
			if w.Code != c.status || p.Status != c.status || p.Element != c.element || !strings.HasPrefix(p.Detail, c.element) || p.Detail == "" {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, c.status, c.element)
			}
			if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %s", got)
			}
		})
	}
	if spool.calls != 0 {
		t.Error("something wrong was stored")
	}
	if st := s.Status(); st.Rejected != uint64(len(malformed)) || st.Accepted != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestServer_Offset(t *testing.T) {
	s := newServer(t, newMemSpool(), &futago.IntakeSettings{})
	p := answer[problem](t, post(s, `{"DATA": [}`))
	if p.Offset == nil || *p.Offset != 10 {
		t.Errorf("%+v", p)
	}
}

func TestServer_Refuses(t *testing.T) {
	sum := sha256.Sum256([]byte("right-token"))
	other := sha256.Sum256([]byte("other-token"))
	settings := &futago.IntakeSettings{CustomTrapTokens: []string{
		"rubbish", strings.ToUpper(hex.EncodeToString(sum[:])), hex.EncodeToString(other[:]),
	}}
	auth := func(v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set("Authorization", v) } }
	good := auth("Bearer right-token")
	for _, c := range []struct {
		name   string
		status int
		header string
		change []func(*http.Request)
	}{
		{"good", 200, "", []func(*http.Request){good}},
		{"scheme in lower case", 200, "", []func(*http.Request){auth("bearer right-token")}},
		{"no token", 401, "WWW-Authenticate", nil},
		{"wrong token", 401, "WWW-Authenticate", []func(*http.Request){auth("Bearer wrong-token")}},
		{"empty token", 401, "WWW-Authenticate", []func(*http.Request){auth("Bearer ")}},
		{"the hash itself", 401, "WWW-Authenticate", []func(*http.Request){auth("Bearer " + hex.EncodeToString(sum[:]))}},
		{"basic", 401, "WWW-Authenticate", []func(*http.Request){auth("Basic right-token")}},
		{"GET", 405, "Allow", []func(*http.Request){good, func(r *http.Request) { r.Method = http.MethodGet }}},
		{"PUT", 405, "Allow", []func(*http.Request){good, func(r *http.Request) { r.Method = http.MethodPut }}},
		{"gzip", 415, "", []func(*http.Request){good, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }}},
		{"other content type", 200, "", []func(*http.Request){good, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }}},
		{"forwarded", 200, "", []func(*http.Request){good, func(r *http.Request) { r.Header.Set("X-Forwarded-For", "203.0.113.9") }}},
		{"long by header", 413, "", []func(*http.Request){good, func(r *http.Request) { r.ContentLength = MaxBody + 1 }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spool := newMemSpool()
			w := post(newServer(t, spool, settings), goodBody, c.change...)
			if w.Code != c.status || c.header != "" && w.Header().Get(c.header) == "" {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
			if (spool.calls == 1) != (c.status == http.StatusOK) {
				t.Errorf("%d calls of Append", spool.calls)
			}
			for _, r := range spool.recs {
				if r.Source.Addr() != testSource.Addr() {
					t.Errorf("source %s", r.Source)
				}
			}
		})
	}
}

func TestServer_TooLong(t *testing.T) {
	s := newServer(t, newMemSpool(), &futago.IntakeSettings{})
	for _, n := range []int{MaxBody - 60, MaxBody} {
		body := `{"DATA":[{"TYPE":"STRING","KEY":"k","MSG":"` + strings.Repeat("x", n) + `"}]}`
		w := post(s, body, func(r *http.Request) { r.ContentLength = -1 })
		want := http.StatusOK
		if len(body) > MaxBody {
			want = http.StatusRequestEntityTooLarge
		}
		if w.Code != want {
			t.Errorf("body of %d bytes: %d", len(body), w.Code)
		}
	}
	// Escapes make this record longer than the spool takes.
	w := post(s, `{"DATA":[{"TYPE":"STRING","KEY":"k","MSG":"`+strings.Repeat("\u2028", MaxBody/4)+`"}]}`)
	if p := answer[problem](t, w); w.Code != http.StatusRequestEntityTooLarge || p.Element != "DATA[0]" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := s.bodyMemory.Load(); got != 0 {
		t.Errorf("%d bytes of bodies counted after the last request", got)
	}
}

// 200 comes after the commitment; without one in time, the answer says that the
// elements are stored.
func TestServer_Commitment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spool := newMemSpool()
		spool.hold = true
		s := &Server{cfg: Config{
			Producer: spool, Commits: spool, CommitTimeout: DefaultCommitTimeout,
			Settings: func() *futago.IntakeSettings { return &futago.IntakeSettings{} },
		}, log: discard()}
		start := time.Now()
		w := post(s, goodBody)
		p := answer[problem](t, w)
		if w.Code != http.StatusServiceUnavailable || p.Spooled == nil || !*p.Spooled || w.Header().Get("Retry-After") == "" {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
		if waited := time.Since(start); waited != DefaultCommitTimeout {
			t.Errorf("waited %s", waited)
		}
		done := make(chan *httptest.ResponseRecorder)
		go func() { done <- post(s, goodBody) }()
		synctest.Wait()
		if st := s.counters(); st.InWork != 1 || st.Uncommitted != 1 {
			t.Errorf("status %+v", st)
		}
		spool.release()
		if w := <-done; w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func TestServer_SpoolFull(t *testing.T) {
	for room, detail := range map[int]string{3: "no room", 4: "DATA[1]"} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			spool := newMemSpool()
			s := newServer(t, spool, &futago.IntakeSettings{})
			if w := post(s, goodBody); w.Code != http.StatusOK {
				t.Fatal(w.Code)
			}
			spool.room = room
			w := post(s, goodBody)
			p := answer[problem](t, w)
			if w.Code != http.StatusServiceUnavailable || p.Spooled == nil || *p.Spooled || !strings.Contains(p.Detail, detail) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if st := s.Status(); st.Refused != 1 || st.Elements != uint64(room) {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestServer_Lost(t *testing.T) {
	spool := newMemSpool()
	spool.lost = true
	w := post(newServer(t, spool, &futago.IntakeSettings{}), goodBody)
	if p := answer[problem](t, w); w.Code != http.StatusServiceUnavailable || *p.Spooled {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestServer_Overload(t *testing.T) {
	s := newServer(t, newMemSpool(), &futago.IntakeSettings{})
	s.inWork.Store(maxRequests)
	if w := post(s, goodBody); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	s.inWork.Store(0)
	s.bodyMemory.Store(maxBodyMemory)
	if w := post(s, goodBody); w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := s.bodyMemory.Load(); got != maxBodyMemory {
		t.Errorf("%d bytes counted, want %d", got, maxBodyMemory)
	}
	s.bodyMemory.Store(0)
	if w := post(s, goodBody); w.Code != http.StatusOK || s.Status().Overloaded != 2 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A body in the character set that the request or the settings name.
func TestServer_Charset(t *testing.T) {
	body := "{\"DATA\":[{\"TYPE\":\"STRING\",\"KEY\":\"\x89\xb7\x93x\",\"MSG\":\"\x94\\\"}]}" // 温度, 能: a backslash in it
	settings := &futago.IntakeSettings{Sources: []futago.SourceRule{{Source: netip.MustParsePrefix("192.0.2.0/24"), Charset: "shift_jis"}}}
	named := func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=Windows-31J") }
	want := []string{`{"DATA":[{"KEY":"温度","MSG":"能","TYPE":"STRING"}]}`}
	for name, c := range map[string]struct {
		settings *futago.IntakeSettings
		change   func(*http.Request)
	}{
		"settings": {settings, func(*http.Request) {}}, "request": {&futago.IntakeSettings{}, named},
	} {
		spool := newMemSpool()
		if w := post(newServer(t, spool, c.settings), body, c.change); w.Code != http.StatusOK || !slices.Equal(spool.raws(), want) {
			t.Errorf("%s: %d %s %q", name, w.Code, w.Body, spool.raws())
		}
	}
}
