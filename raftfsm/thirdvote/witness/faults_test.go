package witness

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// sick is a disk with faults to order.
type sick struct {
	atomicfile.Disk
	writeErr, syncErr, renameErr, dirErr atomic.Pointer[error]
	hold                                 atomic.Pointer[func(name string)]
}

func newSick() *sick {
	s := &sick{}
	real := atomicfile.OS()
	fault := func(p *atomic.Pointer[error]) error {
		if e := p.Load(); e != nil {
			return *e
		}
		return nil
	}
	s.Disk = atomicfile.Disk{
		Write: func(f *os.File, b []byte) error {
			if err := fault(&s.writeErr); err != nil {
				return errors.Join(err, real.Write(f, b[:len(b)/2]))
			}
			return real.Write(f, b)
		},
		Sync: func(f *os.File) error {
			if h := s.hold.Load(); h != nil {
				(*h)(f.Name())
			}
			if err := fault(&s.syncErr); err != nil {
				return err
			}
			return real.Sync(f)
		},
		Rename: func(from, to string) error {
			if err := fault(&s.renameErr); err != nil {
				return err
			}
			return real.Rename(from, to)
		},
		SyncDir: func(dir string) error {
			if err := fault(&s.dirErr); err != nil {
				return err
			}
			return real.SyncDir(dir)
		},
	}
	return s
}

func noTempFiles(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "clusters", "*", ".*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// A write that certainly failed leaves the old record, and says so.
func TestServer_Disk_CertainFailures(t *testing.T) {
	for name, c := range map[string]struct {
		at     func(*sick) *atomic.Pointer[error]
		err    error
		status int
		code   futago.Code
	}{
		"full at write":    {func(s *sick) *atomic.Pointer[error] { return &s.writeErr }, syscall.ENOSPC, http.StatusInsufficientStorage, futago.CodeStorageFull},
		"quota at write":   {func(s *sick) *atomic.Pointer[error] { return &s.writeErr }, syscall.EDQUOT, http.StatusInsufficientStorage, futago.CodeStorageFull},
		"full at flush":    {func(s *sick) *atomic.Pointer[error] { return &s.syncErr }, syscall.ENOSPC, http.StatusInsufficientStorage, futago.CodeStorageFull},
		"full at rename":   {func(s *sick) *atomic.Pointer[error] { return &s.renameErr }, syscall.ENOSPC, http.StatusInsufficientStorage, futago.CodeStorageFull},
		"sick at flush":    {func(s *sick) *atomic.Pointer[error] { return &s.syncErr }, syscall.EIO, http.StatusInternalServerError, futago.CodeInternal},
		"readonly, rename": {func(s *sick) *atomic.Pointer[error] { return &s.renameErr }, syscall.EROFS, http.StatusInternalServerError, futago.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			disk := newSick()
			r := start(t, t.TempDir(), &disk.Disk, nil)
			r.invite("c1")
			wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
			c.at(disk).Store(&c.err)
			got := r.cas("c1", tag(1, "n1"), rec(2, "n2"))
			want(t, "write", got, c.status)
			if got.prob.Code != c.code {
				t.Errorf("code %q", got.prob.Code)
			}
			wantRecord(t, "read meanwhile", r.get("c1"), 1, "n1")
			noTempFiles(t, r.dir)
			c.at(disk).Store(nil)
			wantRecord(t, "read", r.get("c1"), 1, "n1")
			wantRecord(t, "write again", r.cas("c1", tag(1, "n1"), rec(2, "n2")), 2, "n2")
		})
	}
}

// After a rename whose flush failed, nothing is said about the record before
// it is flushed: a reader must not see what a power failure could undo.
func TestServer_Disk_UncertainFailure(t *testing.T) {
	for name, at := range map[string]func(*sick) *atomic.Pointer[error]{
		"directory": func(s *sick) *atomic.Pointer[error] { return &s.dirErr },
		"rename":    func(s *sick) *atomic.Pointer[error] { return &s.renameErr },
	} {
		t.Run(name, func(t *testing.T) {
			disk := newSick()
			r := start(t, t.TempDir(), &disk.Disk, nil)
			r.invite("c1")
			r.invite("c2")
			wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
			wantRecord(t, "create", r.create("c2", rec(1, "m1")), 1, "m1")
			eio := error(syscall.EIO)
			at(disk).Store(&eio)
			for what, got := range map[string]reply{
				"write": r.cas("c1", tag(1, "n1"), rec(2, "n2")), "read": r.get("c1"), "other write": r.cas("c1", tag(1, "n1"), rec(2, "n3")),
			} {
				want(t, what, got, http.StatusInternalServerError)
				if got.prob.Code != futago.CodeUnknown {
					t.Errorf("%s: code %q", what, got.prob.Code)
				}
			}
			wantRecord(t, "read of another cluster", r.get("c2"), 1, "m1")
			at(disk).Store(nil)
			wantRecord(t, "read once the disk is well", r.get("c1"), 2, "n2")
			wantRecord(t, "write", r.cas("c1", tag(2, "n2"), rec(3, "n3")), 3, "n3")
		})
	}
}

// A directory whose disk hangs stays locked, or the write that hangs could land
// on what the next process has written.
func TestServer_Disk_HangsAtTheEnd(t *testing.T) {
	disk := newSick()
	dir := t.TempDir()
	s, err := newServer(Config{Dir: dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}, &disk.Disk)
	if err != nil {
		t.Fatal(err)
	}
	s.grace = 50 * time.Millisecond
	c := openCluster(s.root, "c1", s.disk, s.met.observeFlush)
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.cur.Store(&state{})
	s.clusters["c1"] = c
	reached, release := make(chan struct{}), make(chan struct{})
	hold := func(string) {
		close(reached)
		<-release
	}
	disk.hold.Store(&hold)
	first, err := parseRecord([]byte(rec(1, "n1")))
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		_, err := c.compareAndSet(context.Background(), "", first)
		written <- err
	}()
	<-reached
	disk.hold.Store(nil)
	if err := s.Close(); !errors.Is(err, errDiskHangs) {
		t.Errorf("closed with %v", err)
	}
	_, err = New(Config{Dir: dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	wantCode(t, err, futago.CodeConflict)
	close(release)
	if err := <-written; err != nil {
		t.Error(err)
	}
	if err := s.lock.Close(); err != nil {
		t.Error(err)
	}
}

// A file system that is really full, where the test may mount one.
func TestServer_Disk_ReallyFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("no mount: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	r := start(t, dir, atomicfile.OS(), nil)
	r.invite("c1")
	wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	got := r.cas("c1", tag(1, "n1"), rec(2, "n2"))
	want(t, "write", got, http.StatusInsufficientStorage)
	wantRecord(t, "read", r.get("c1"), 1, "n1")
	noTempFiles(t, dir)
	_, err := NewInvitation(InvitationOptions{Dir: dir, Cluster: "c1", URL: "https://w:1"})
	wantCode(t, err, futago.CodeStorageFull, dir)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	wantRecord(t, "write once there is room", r.cas("c1", tag(1, "n1"), rec(2, "n2")), 2, "n2")
}

// What is answered 200 has been flushed: content, then name.
func TestServer_Disk_FlushedBeforeTheAnswer(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, s)
	}
	real := atomicfile.OS()
	r := start(t, t.TempDir(), &atomicfile.Disk{
		Write:   func(f *os.File, b []byte) error { note("write"); return real.Write(f, b) },
		Sync:    func(f *os.File) error { note("flush"); return real.Sync(f) },
		Rename:  func(from, to string) error { note("rename"); return real.Rename(from, to) },
		SyncDir: func(dir string) error { note("flush " + filepath.Base(dir)); return real.SyncDir(dir) },
	}, nil)
	r.invite("c1")
	wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
	mu.Lock()
	calls = nil
	mu.Unlock()
	wantRecord(t, "write", r.cas("c1", tag(1, "n1"), rec(2, "n2")), 2, "n2")
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"write", "flush", "rename", "flush c1"}; !slices.Equal(calls, want) {
		t.Errorf("%q instead of %q", calls, want)
	}
}

// One cluster's slow flush holds up neither other clusters nor its own reads.
func TestServer_Disk_SlowFlushHoldsUpNobody(t *testing.T) {
	disk := newSick()
	r := start(t, t.TempDir(), &disk.Disk, nil)
	r.invite("slow")
	r.invite("fast")
	wantRecord(t, "create", r.create("slow", rec(1, "n1")), 1, "n1")
	reached, release := make(chan struct{}), make(chan struct{})
	hold := func(name string) {
		if strings.Contains(name, "/slow/") {
			close(reached)
			<-release
		}
	}
	disk.hold.Store(&hold)
	answer := make(chan reply, 1)
	go func() { answer <- r.cas("slow", tag(1, "n1"), rec(2, "n2")) }()
	<-reached
	disk.hold.Store(nil)
	wantRecord(t, "another cluster", r.create("fast", rec(1, "m1")), 1, "m1")
	wantRecord(t, "read sees what is flushed", r.get("slow"), 1, "n1")
	close(release)
	wantRecord(t, "slow write", <-answer, 2, "n2")
	wantRecord(t, "read", r.get("slow"), 2, "n2")
}

func TestServer_Corrupt_NamedAndNeverServed(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"bit":       func(b []byte) []byte { b[len(b)-5] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)-3] },
		"empty":     func([]byte) []byte { return nil },
		"text":      func([]byte) []byte { return []byte("hello") },
		"whole, no record": func([]byte) []byte {
			path := filepath.Join(t.TempDir(), "f")
			b, err := []byte(nil), atomicfile.WriteSummed(path, []byte(`{"version":0}`), filePerm)
			if err == nil {
				b, err = os.ReadFile(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, t.TempDir(), atomicfile.OS(), nil)
			r.invite("c1")
			r.invite("c2")
			wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
			wantRecord(t, "create", r.create("c2", rec(1, "m1")), 1, "m1")
			r.stop()
			path := filepath.Join(r.dir, "clusters", "c1", "record")
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			put := func(b []byte) {
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put(damage(append([]byte(nil), good...)))
			r2 := start(t, r.dir, atomicfile.OS(), nil)
			r2.tokens = r.tokens
			for what, got := range map[string]reply{
				"read": r2.get("c1"), "create": r2.create("c1", rec(1, "new")), "write": r2.cas("c1", tag(1, "n1"), rec(2, "n2")),
			} {
				want(t, what, got, http.StatusInternalServerError)
				if got.prob.Code != futago.CodeCorrupt || !strings.Contains(got.prob.Detail, path) {
					t.Errorf("%s: %s", what, got.body)
				}
			}
			wantRecord(t, "the other cluster", r2.cas("c2", tag(1, "m1"), rec(2, "m2")), 2, "m2")
			put(good)
			wantRecord(t, "read once the file is whole", r2.get("c1"), 1, "n1")
		})
	}
}

func TestServer_Corrupt_Tokens(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	r.invite("c1")
	r.invite("c2")
	path := filepath.Join(r.dir, "clusters", "c1", "tokens")
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := r.get("c1")
	want(t, "read", got, http.StatusInternalServerError)
	if got.prob.Code != futago.CodeCorrupt || !strings.Contains(got.prob.Detail, path) {
		t.Errorf("%s", got.body)
	}
	want(t, "other cluster", r.get("c2"), http.StatusNotFound)
	_, err := NewInvitation(InvitationOptions{Dir: r.dir, Cluster: "c1", URL: "https://w:1"})
	wantCode(t, err, futago.CodeCorrupt, path)
}

func TestServer_Leftovers_RemovedAtStart(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir, atomicfile.OS(), nil)
	r.invite("c1")
	wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
	r.stop()
	if err := os.WriteFile(filepath.Join(dir, "clusters", "c1", ".record.123.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	r2 := start(t, dir, atomicfile.OS(), nil)
	r2.tokens = r.tokens
	wantRecord(t, "read", r2.get("c1"), 1, "n1")
	noTempFiles(t, dir)
}

func TestServer_Limits_Connections(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), func(s *Server) {
		ll, ok := s.ln.(*limitListener)
		if !ok {
			t.Fatal("listener has no limit")
		}
		ll.max = 3
	})
	addr := r.srv.Addr().String()
	dial := func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	var held []net.Conn
	for range 3 {
		held = append(held, dial())
	}
	eventually(t, "three connections", func() bool { return r.count("futago_witness_connections", nil) == 3 })
	extra := dial()
	if _, err := extra.Read(make([]byte, 1)); err == nil {
		t.Error("a fourth connection was served")
	}
	if got := r.count("futago_witness_connections_refused_total", nil); got != 1 {
		t.Errorf("refused %v", got)
	}
	for _, c := range held {
		_ = c.Close()
	}
	eventually(t, "no connection", func() bool { return r.count("futago_witness_connections", nil) == 0 })
	r.invite("c1")
	wantRecord(t, "served again", r.create("c1", rec(1, "n1")), 1, "n1")
}

// A client that never finishes its handshake or its headers is put out.
func TestServer_Limits_SlowClients(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), func(s *Server) { s.http.ReadHeaderTimeout = 50 * time.Millisecond })
	addr := r.srv.Addr().String()
	raw, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_, _ = io.Copy(io.Discard, raw) // ends only if the witness closes

	sec, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer sec.Close()
	fmt.Fprint(sec, "GET /v1/health HTTP/1.1\r\nHost: w\r\nX-Slow: ")
	_, _ = io.Copy(io.Discard, sec)

	big, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	go func() {
		fmt.Fprintf(big, "GET /v1/health HTTP/1.1\r\nHost: w\r\nX-Big: %s\r\n\r\n", strings.Repeat("x", 4*maxHeader))
	}()
	resp, err := http.ReadResponse(bufio.NewReader(big), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}
