package httpregister

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/witness"
)

func TestRegister_Life(t *testing.T) {
	dir, addr := serve(t)
	r := open(t, invite(t, dir, "c1", addr), 0)
	_, err := r.Read(t.Context())
	wantKind(t, "read of nothing", err, register.ErrMissing)
	one := first()
	_, err = r.CompareAndSet(t.Context(), one, after(one))
	wantKind(t, "write on nothing", err, register.ErrMissing)
	if got, err := r.Create(t.Context(), one); err != nil || got != one {
		t.Fatalf("create: %v, %v", got, err)
	}
	_, err = r.Create(t.Context(), first())
	wantKind(t, "create again", err, register.ErrExists)
	if got := mustRead(t, r); got != one {
		t.Fatalf("read: %v", got)
	}
	two := after(one)
	two.Version = 99 // the register counts
	got, err := r.CompareAndSet(t.Context(), one, two)
	two.Version = 2
	if err != nil || got != two {
		t.Fatalf("write: %v, %v", got, err)
	}
	if got, err := r.CompareAndSet(t.Context(), one, two); err != nil || got != two {
		t.Fatalf("the same write again: %v, %v", got, err)
	}
	_, err = r.CompareAndSet(t.Context(), one, after(one))
	wantKind(t, "write on the old record", err, register.ErrConflict)
	if e, ok := errors.AsType[*register.ConflictError](err); !ok || e.Current != two {
		t.Errorf("conflict does not carry the record: %v", err)
	}
	forged := two
	forged.Nonce = register.NewNonce()
	_, err = r.CompareAndSet(t.Context(), forged, after(forged))
	wantKind(t, "equal version, other nonce", err, register.ErrConflict)
	for name, next := range map[string]register.Record{"invalid": {}, "old nonce": two} {
		if _, err := r.CompareAndSet(t.Context(), two, next); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if got := mustRead(t, r); got != two {
		t.Fatalf("read at the end: %v", got)
	}
}

func TestRegister_WrongCredentials(t *testing.T) {
	dir, addr := serve(t)
	good := invite(t, dir, "c1", addr)
	other := invite(t, dir, "c2", addr)
	old := first()
	if _, err := open(t, good, 0).Create(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*witness.Invitation)
		code   futago.Code
	}{
		"token": {func(i *witness.Invitation) { i.Token = other.Token }, futago.CodeForbidden},
		"pin":   {func(i *witness.Invitation) { i.Pin = witness.Pin([]byte("another")) }, futago.CodeForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			inv := good
			c.change(&inv)
			r := open(t, inv, 0)
			_, err := r.Read(t.Context())
			wantKind(t, "read", err, register.ErrUnavailable)
			if got := futago.CodeOf(err); got != c.code {
				t.Errorf("read: code %q: %v", got, err)
			}
			if strings.Contains(err.Error(), inv.Token) {
				t.Error("the token shows in an error")
			}
			_, err = r.CompareAndSet(t.Context(), old, after(old))
			wantKind(t, "write", err, register.ErrUnavailable)
			if got := futago.CodeOf(err); got != c.code {
				t.Errorf("write: code %q: %v", got, err)
			}
		})
	}
	if _, err := New(Options{Invitation: witness.Invitation{URL: "http://x"}}); futago.CodeOf(err) != futago.CodeInvalid {
		t.Errorf("bad invitation: %v", err)
	}
}

func TestRegister_CorruptRecord(t *testing.T) {
	dir := t.TempDir()
	p := spawn(t, dir, "127.0.0.1:0")
	inv := invite(t, dir, "c1", p.addr)
	old := first()
	_, err := open(t, inv, 0).Create(t.Context(), old)
	p.kill()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "clusters", "c1", "record")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	p = spawn(t, dir, p.addr)
	defer p.kill()
	r := open(t, inv, 0)
	_, err = r.Read(t.Context())
	wantKind(t, "read", err, register.ErrUnavailable)
	if futago.CodeOf(err) != futago.CodeCorrupt || !strings.Contains(err.Error(), path) {
		t.Errorf("read: %v", err)
	}
	_, err = r.CompareAndSet(t.Context(), old, after(old))
	wantKind(t, "write", err, register.ErrAmbiguous)
}

// Answers that a healthy witness never gives must be taken for what they
// prove, which is little.
func TestRegister_StrangeAnswers(t *testing.T) {
	old := first()
	next := after(old)
	third := after(next)
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	prob := func(status int, code futago.Code, rec *register.Record) string {
		p := witness.Problem{Status: status, Code: code, Detail: "x"}
		if rec != nil {
			p.Record = json.RawMessage(text(rec))
		}
		return text(p)
	}
	const jsonType = "application/json"
	for name, c := range map[string]struct {
		status     int
		kind, etag string
		body       string
		write      error // nil: done
		read       error
	}{
		"good":                    {200, jsonType, etag(next), text(next), nil, nil},
		"another record":          {200, jsonType, etag(third), text(third), register.ErrAmbiguous, nil},
		"tag of another":          {200, jsonType, etag(third), text(next), register.ErrAmbiguous, register.ErrUnavailable},
		"no tag":                  {200, jsonType, "", text(next), register.ErrAmbiguous, register.ErrUnavailable},
		"a page":                  {200, "text/html", etag(next), "<html>", register.ErrAmbiguous, register.ErrUnavailable},
		"record as a page":        {200, "text/html", etag(next), text(next), register.ErrAmbiguous, register.ErrUnavailable},
		"half a record":           {200, jsonType, etag(next), text(next)[:40], register.ErrAmbiguous, register.ErrUnavailable},
		"impossible record":       {200, jsonType, `"0-"`, `{"holders":"a"}`, register.ErrAmbiguous, register.ErrUnavailable},
		"nothing":                 {200, jsonType, etag(next), "", register.ErrAmbiguous, register.ErrUnavailable},
		"too much":                {200, jsonType, etag(next), strings.Repeat(" ", maxAnswer) + text(next), register.ErrAmbiguous, register.ErrUnavailable},
		"no content":              {204, jsonType, etag(next), "", register.ErrAmbiguous, register.ErrUnavailable},
		"moved elsewhere":         {307, "text/html", "", "", register.ErrAmbiguous, register.ErrUnavailable},
		"conflict":                {412, witness.ProblemType, etag(third), prob(412, futago.CodeConflict, &third), register.ErrConflict, register.ErrUnavailable},
		"conflict without record": {412, witness.ProblemType, "", prob(412, futago.CodeConflict, nil), register.ErrAmbiguous, register.ErrUnavailable},
		"conflict with itself":    {412, witness.ProblemType, etag(next), prob(412, futago.CodeConflict, &next), register.ErrAmbiguous, register.ErrUnavailable},
		"conflict of a page":      {412, "text/html", "", "<html>", register.ErrAmbiguous, register.ErrUnavailable},
		"conflict in words of 500": {
			412, witness.ProblemType, etag(third), prob(500, futago.CodeConflict, &third), register.ErrAmbiguous, register.ErrUnavailable,
		},
		"missing":          {404, witness.ProblemType, "", prob(404, futago.CodeNotFound, nil), register.ErrMissing, register.ErrMissing},
		"missing page":     {404, "text/html", "", "<html>", register.ErrAmbiguous, register.ErrUnavailable},
		"full":             {507, witness.ProblemType, "", prob(507, futago.CodeStorageFull, nil), register.ErrUnavailable, register.ErrUnavailable},
		"denied":           {403, witness.ProblemType, "", prob(403, futago.CodeForbidden, nil), register.ErrUnavailable, register.ErrUnavailable},
		"denied by a page": {403, "text/html", "", "<html>", register.ErrAmbiguous, register.ErrUnavailable},
		"broken":           {500, witness.ProblemType, "", prob(500, futago.CodeInternal, nil), register.ErrAmbiguous, register.ErrUnavailable},
		"busy":             {503, witness.ProblemType, "", prob(503, futago.CodeUnavailable, nil), register.ErrAmbiguous, register.ErrUnavailable},
		"timeout":          {408, witness.ProblemType, "", prob(408, futago.CodeInvalid, nil), register.ErrAmbiguous, register.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			r := fake(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				if c.etag != "" {
					w.Header().Set("ETag", c.etag)
				}
				if c.status == 307 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})
			got, err := r.CompareAndSet(t.Context(), old, next)
			if c.write == nil {
				if err != nil || got != next {
					t.Errorf("write: %v, %v", got, err)
				}
			} else {
				wantKind(t, "write", err, c.write)
			}
			if _, err = r.Read(t.Context()); c.read == nil {
				if err != nil {
					t.Errorf("read: %v", err)
				}
			} else {
				wantKind(t, "read", err, c.read)
			}
		})
	}
}

// An answer that is not HTTP.
func TestRegister_Garbage(t *testing.T) {
	for _, garbage := range []string{"\x00\x01\x02", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxAnswer)} {
		r := fake(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, garbage)
			_ = conn.Close()
		})
		old := first()
		_, err := r.CompareAndSet(t.Context(), old, after(old))
		wantKind(t, fmt.Sprintf("write %.20q", garbage), err, register.ErrAmbiguous)
		_, err = r.Read(t.Context())
		wantKind(t, fmt.Sprintf("read %.20q", garbage), err, register.ErrUnavailable)
	}
}

// fake is a register whose witness answers as h does.
func fake(t *testing.T, h http.HandlerFunc) *Register {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	inv := invite(t, dir, "c1", srv.Listener.Addr().String())
	inv.Pin = witness.Pin(srv.Certificate().RawSubjectPublicKeyInfo)
	return open(t, inv, 5*time.Second)
}

// Requests of one register go over kept connections.
func TestRegister_KeepsConnections(t *testing.T) {
	dir, addr := serve(t)
	p := newProxy(t, addr)
	r := open(t, invite(t, dir, "c1", p.ln.Addr().String()), 0)
	old, err := r.Create(t.Context(), first())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if old, err = r.CompareAndSet(t.Context(), old, after(old)); err != nil {
			t.Fatal(err)
		}
		mustRead(t, r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := len(p.conns) / 2; got > maxIdleConns {
		t.Errorf("%d connections", got)
	}
}

func BenchmarkRegister(b *testing.B) {
	dir, addr := serve(b)
	b.Run("Read", func(b *testing.B) {
		r := open(b, invite(b, dir, "read", addr), 0)
		if _, err := r.Create(b.Context(), first()); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := r.Read(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("CompareAndSet", func(b *testing.B) {
		r := open(b, invite(b, dir, "cas", addr), 0)
		rec, err := r.Create(b.Context(), first())
		if errors.Is(err, register.ErrExists) {
			rec, err = r.Read(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if rec, err = r.CompareAndSet(b.Context(), rec, after(rec)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("CompareAndSet/clusters=64", func(b *testing.B) {
		const clusters = 64
		type side struct {
			r   *Register
			rec register.Record
		}
		var sides []*side
		for i := range clusters {
			s := &side{r: open(b, invite(b, dir, fmt.Sprintf("many-%d", i), addr), 10*time.Second)}
			rec, err := s.r.Create(b.Context(), first())
			if errors.Is(err, register.ErrExists) {
				rec, err = s.r.Read(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
			s.rec = rec
			sides = append(sides, s)
		}
		b.ResetTimer()
		var wg sync.WaitGroup
		for i, s := range sides {
			wg.Go(func() {
				for range (b.N + clusters - 1 - i) / clusters {
					rec, err := s.r.CompareAndSet(context.Background(), s.rec, after(s.rec))
					if err != nil {
						b.Error(err)
						return
					}
					s.rec = rec
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	})
}
