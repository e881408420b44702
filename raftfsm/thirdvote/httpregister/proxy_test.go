package httpregister

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// fault is what the proxy does with the next request.
type fault int

const (
	none          fault = iota
	dropAnswer          // forwards, and closes when the answer comes
	resetBefore         // resets when the request comes, forwarding nothing
	half                // forwards the first half of the request, then resets
	swallow             // takes the request and says nothing
	late                // holds the request until release
	resetOnAccept       // resets new connections
	silent              // accepts new connections and says nothing
)

// proxy stands between register and witness and sees TLS records only. A
// fault strikes what the client sends after it was set, so a connection whose
// handshake is done must exist, except for the two faults of new connections.
type proxy struct {
	t      *testing.T
	ln     net.Listener
	target string

	mu      sync.Mutex
	fault   fault
	held    chan struct{}
	answers chan struct{} // one for each answer dropped
	seen    atomic.Int64  // pieces of answers that came from the witness
	conns   []net.Conn
	wg      sync.WaitGroup
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, ln: ln, target: target, held: make(chan struct{}), answers: make(chan struct{}, 16)}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		p.release()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

func (p *proxy) get() fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

// release lets held requests go on.
func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = none
	select {
	case <-p.held:
	default:
		close(p.held)
	}
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

func reset(c net.Conn) {
	if tc, ok := c.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	_ = c.Close()
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.keep(c)
		switch p.get() {
		case resetOnAccept:
			reset(c)
			continue
		case silent:
			continue
		default:
		}
		w, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.target)
		if err != nil {
			reset(c)
			continue
		}
		p.keep(w)
		p.wg.Go(func() { p.requests(c, w) })
		p.wg.Go(func() { p.answer(c, w) })
	}
}

func (p *proxy) requests(c, w net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			_ = w.Close()
			return
		}
		switch p.get() {
		case resetBefore:
			reset(c)
			_ = w.Close()
			return
		case half:
			_, _ = w.Write(buf[:n/2])
			reset(c)
			_ = w.Close()
			return
		case swallow:
			continue
		case late:
			// The witness does not learn that the client has gone.
			<-p.held
			_, _ = w.Write(buf[:n])
			return
		default:
		}
		if _, err := w.Write(buf[:n]); err != nil {
			_ = w.Close()
			return
		}
	}
}

func (p *proxy) answer(c, w net.Conn) {
	defer c.Close()
	defer w.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := w.Read(buf)
		if err != nil {
			return
		}
		p.seen.Add(1)
		if p.get() == dropAnswer {
			select {
			case p.answers <- struct{}{}:
			default:
			}
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestRegister_Faults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault fault
		fresh bool  // strikes a new connection
		kind  error // of a write
		moved bool  // the write took effect, seen past the proxy
	}{
		{"the answer is lost", dropAnswer, false, register.ErrAmbiguous, true},
		{"reset before the request got through", resetBefore, false, register.ErrAmbiguous, false},
		{"half of the request got through", half, false, register.ErrAmbiguous, false},
		{"no answer in time", swallow, false, register.ErrAmbiguous, false},
		{"reset while connecting", resetOnAccept, true, register.ErrUnavailable, false},
		{"silence while connecting", silent, true, register.ErrUnavailable, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, addr := serve(t)
			p := newProxy(t, addr)
			direct := open(t, invite(t, dir, "c1", addr), 0)
			r := open(t, invite(t, dir, "c1", p.ln.Addr().String()), 0)
			if _, err := r.Create(t.Context(), first()); err != nil {
				t.Fatal(err)
			}
			old := mustRead(t, r)
			if c.fresh {
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			p.set(c.fault)
			next := after(old)
			_, err := r.CompareAndSet(ctx, old, next)
			wantKind(t, "write", err, c.kind)
			if c.fault == dropAnswer {
				<-p.answers
			}
			got := mustRead(t, direct)
			if (got == next) != c.moved || !c.moved && got != old {
				t.Errorf("moved %v: %v", got == next, got)
			}
			if c.fault != dropAnswer { // by now a new connection, which fails in its handshake
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				_, err = r.Read(ctx)
				wantKind(t, "read", err, register.ErrUnavailable)
			}
			p.set(none)
			if got := mustRead(t, r); (got == next) != c.moved {
				t.Errorf("read afterwards: %v", got)
			}
		})
	}
}

// A write whose sender gave up takes effect later: what "ambiguous" warns of.
func TestRegister_LateWrite(t *testing.T) {
	for _, moved := range []bool{false, true} {
		dir, addr := serve(t)
		p := newProxy(t, addr)
		direct := open(t, invite(t, dir, "c1", addr), 0)
		r := open(t, invite(t, dir, "c1", p.ln.Addr().String()), 100*time.Millisecond)
		if _, err := direct.Create(t.Context(), first()); err != nil {
			t.Fatal(err)
		}
		old := mustRead(t, r)
		p.set(late)
		next := after(old)
		_, err := r.CompareAndSet(t.Context(), old, next)
		wantKind(t, "write", err, register.ErrAmbiguous)
		if got := mustRead(t, direct); got != old {
			t.Fatal("done too early")
		}
		want := next
		if moved {
			if want, err = direct.CompareAndSet(t.Context(), old, after(old)); err != nil {
				t.Fatal(err)
			}
		}
		before := p.seen.Load()
		p.release()
		if moved {
			eventually(t, "the witness answers the late write", func() bool { return p.seen.Load() > before })
			if got := mustRead(t, direct); got != want {
				t.Errorf("a late write took effect on a moved record: %v", got)
			}
			continue
		}
		eventually(t, "the late write takes effect", func() bool { return mustRead(t, direct) == want })
	}
}

func TestRegister_NobodyListens(t *testing.T) {
	dir, addr := serve(t)
	inv := invite(t, dir, "c1", addr)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inv.URL = "https://" + ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	r := open(t, inv, 0)
	_, err = r.Read(t.Context())
	wantKind(t, "read", err, register.ErrUnavailable)
	old := first()
	_, err = r.CompareAndSet(t.Context(), old, after(old))
	wantKind(t, "write", err, register.ErrUnavailable)
	_, err = r.Create(t.Context(), first())
	wantKind(t, "create", err, register.ErrUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = open(t, invite(t, dir, "c1", addr), 0).CompareAndSet(ctx, old, after(old))
	wantKind(t, "given up before it began", err, register.ErrUnavailable)
}
