package witness

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

func TestServer_Record_Life(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	r.invite("c1")
	want(t, "read of nothing", r.get("c1"), http.StatusNotFound)
	want(t, "compare-and-set of nothing", r.cas("c1", tag(1, "n1"), rec(2, "n2")), http.StatusNotFound)
	want(t, "first version not 1", r.create("c1", rec(2, "n1")), http.StatusBadRequest)
	wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
	wantRecord(t, "create repeated", r.create("c1", rec(1, "n1")), 1, "n1")
	want(t, "create by another", r.create("c1", rec(1, "other")), http.StatusPreconditionFailed)
	wantRecord(t, "read", r.get("c1"), 1, "n1")
	wantRecord(t, "compare-and-set", r.cas("c1", tag(1, "n1"), rec(2, "n2")), 2, "n2")
	wantRecord(t, "compare-and-set repeated", r.cas("c1", tag(1, "n1"), rec(2, "n2")), 2, "n2")

	stale := r.cas("c1", tag(1, "n1"), rec(2, "n3"))
	want(t, "compare-and-set on the old one", stale, http.StatusPreconditionFailed)
	if string(stale.prob.Record) != rec(2, "n2") || stale.etag != tag(2, "n2") || stale.prob.Code != futago.CodeConflict {
		t.Errorf("conflict does not carry the record: %s %s", stale.etag, stale.body)
	}
	want(t, "same nonce, other content", r.cas("c1", tag(1, "n1"), `{"version":2,"nonce":"n2"}`), http.StatusPreconditionFailed)
	want(t, "same version, other nonce", r.cas("c1", tag(2, "x"), rec(3, "n3")), http.StatusPreconditionFailed)
	want(t, "version leaps", r.cas("c1", tag(2, "n2"), rec(4, "n3")), http.StatusBadRequest)
	want(t, "version stays", r.cas("c1", tag(2, "n2"), rec(2, "n3")), http.StatusBadRequest)
	want(t, "nonce stays", r.cas("c1", tag(2, "n2"), rec(3, "n2")), http.StatusBadRequest)

	r.stop()
	r2 := start(t, r.dir, atomicfile.OS(), nil)
	r2.tokens = r.tokens
	if r2.srv.Pin() != r.srv.Pin() {
		t.Error("another pin after a restart")
	}
	wantRecord(t, "read after a restart", r2.get("c1"), 2, "n2")
	wantRecord(t, "repeated after a restart", r2.cas("c1", tag(1, "n1"), rec(2, "n2")), 2, "n2")
	wantRecord(t, "write after a restart", r2.cas("c1", tag(2, "n2"), rec(3, "n3")), 3, "n3")
}

func TestServer_Record_BadRequests(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	r.invite("c1")
	wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
	match := func(v ...string) http.Header { return http.Header{"If-Match": v} }
	for name, c := range map[string]struct {
		header http.Header
		body   string
		status int
	}{
		"no condition":    {nil, rec(2, "n2"), http.StatusPreconditionRequired},
		"star":            {match("*"), rec(2, "n2"), http.StatusBadRequest},
		"weak tag":        {match(`W/"1-n1"`), rec(2, "n2"), http.StatusBadRequest},
		"two tags":        {match(`"1-n1","9-x"`), rec(2, "n2"), http.StatusBadRequest},
		"two headers":     {match(`"1-n1"`, `"1-n1"`), rec(2, "n2"), http.StatusBadRequest},
		"both conditions": {http.Header{"If-Match": {`"1-n1"`}, "If-None-Match": {"*"}}, rec(2, "n2"), http.StatusBadRequest},
		"not JSON":        {match(`"1-n1"`), "hello", http.StatusBadRequest},
		"no object":       {match(`"1-n1"`), `[1]`, http.StatusBadRequest},
		"no version":      {match(`"1-n1"`), `{"nonce":"n2"}`, http.StatusBadRequest},
		"no nonce":        {match(`"1-n1"`), `{"version":2}`, http.StatusBadRequest},
		"bad nonce":       {match(`"1-n1"`), `{"version":2,"nonce":"a\"b"}`, http.StatusBadRequest},
		"trailing":        {match(`"1-n1"`), rec(2, "n2") + "{}", http.StatusBadRequest},
		"too large":       {match(`"1-n1"`), `{"version":2,"nonce":"n2","x":"` + strings.Repeat("x", maxBody) + `"}`, http.StatusRequestEntityTooLarge},
		"media type":      {http.Header{"If-Match": {`"1-n1"`}, "Content-Type": {"text/plain"}}, rec(2, "n2"), http.StatusUnsupportedMediaType},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, name, r.do(http.MethodPut, "c1", c.header, c.body), c.status)
			wantRecord(t, "read afterwards", r.get("c1"), 1, "n1")
		})
	}
	want(t, "method", r.do(http.MethodDelete, "c1", nil, ""), http.StatusMethodNotAllowed)
	want(t, "path", r.do(http.MethodGet, "c1/more", nil, ""), http.StatusNotFound)
}

// Of many writers on one version exactly one wins, and versions rise by one.
func TestServer_CompareAndSet_OneWins(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	r.invite("c1")
	wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
	cur := "n1"
	for v := 1; v <= 20; v++ {
		var mu sync.Mutex
		var won []string
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				nonce := fmt.Sprintf("v%dw%d", v, w)
				switch got := r.cas("c1", tag(v, cur), rec(v+1, nonce)); got.status {
				case http.StatusOK:
					mu.Lock()
					won = append(won, nonce)
					mu.Unlock()
				case http.StatusPreconditionFailed:
				default:
					t.Errorf("status %d", got.status)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("version %d: %d writers won", v, len(won))
		}
		cur = won[0]
		wantRecord(t, "read", r.get("c1"), v+1, cur)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(rec(1, "n")))
	f.Add([]byte(`{"version":18446744073709551615,"nonce":"-"}`))
	f.Add([]byte(` {"nonce":"a","version":1,"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		again, err := parseRecord(r.raw)
		if err != nil || !again.same(r) || !strongTag(r.etag()) {
			t.Errorf("%q is read as %q, %v", data, r.raw, err)
		}
	})
}
