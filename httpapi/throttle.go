package httpapi

import (
	"net/netip"
	"sync"
	"time"

	"github.com/futago/futago"
)

// Bounds of guessing at passwords. A client is one IPv4 address, or a /64 of
// IPv6, which is what one host gets.
const (
	guessFree     = 5               // wrong passwords before a client has to wait
	guessWait     = 2 * time.Second // for each further one
	guessMost     = 30              // so a minute at most
	guessForget   = 10 * time.Minute
	guessClients  = 4096 // remembered
	guessTogether = 4    // being checked at once, for one client
	guessAll      = 32   // and for all of them
)

// throttle slows guessing down. It is by address and not by user name, so that
// nobody can lock another one out, and a right password does not clear the
// count, so that an own account is of no help in guessing at others.
type throttle struct {
	now func() time.Time

	mu      sync.Mutex // guards everything below
	clients map[netip.Prefix]*guesses
	all     int
}

type guesses struct {
	wrong    int
	last     time.Time
	together int
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, clients: map[netip.Prefix]*guesses{}}
}

// clientOf is the client behind a request's remote address. What has no
// address (a unix socket) is one client.
func clientOf(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// begin asks to check a password; end must be called with the outcome when err
// is nil.
func (t *throttle) begin(remote string) (end func(wrong bool), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, client := t.now(), clientOf(remote)
	g := t.clients[client]
	if g == nil {
		g = &guesses{}
		t.makeRoom(now)
		t.clients[client] = g
	}
	if now.Sub(g.last) > guessForget {
		g.wrong = 0
	}
	if g.wrong >= guessFree {
		if wait := g.last.Add(time.Duration(g.wrong-guessFree+1) * guessWait).Sub(now); wait > 0 {
			wait = wait.Round(time.Second) + time.Second
			return nil, &busyError{wait: wait, err: futago.Errorf(futago.CodeUnavailable, "too many wrong passwords from %s", client).
				WithAction("wait %s", wait)}
		}
	}
	if g.together >= guessTogether || t.all >= guessAll {
		return nil, &busyError{wait: time.Second, err: futago.Errorf(futago.CodeUnavailable, "too many sign-ins at once").
			WithAction("try again in a moment")}
	}
	g.together++
	t.all++
	return func(wrong bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		g.together--
		t.all--
		if wrong {
			g.wrong, g.last = min(g.wrong+1, guessMost), t.now()
		}
	}, nil
}

// makeRoom forgets clients when there are too many: those whose time is over,
// or else the one that failed longest ago. One that is being checked stays.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.clients) < guessClients {
		return
	}
	var oldest netip.Prefix
	var at time.Time
	found := false
	for c, g := range t.clients {
		switch {
		case g.together > 0:
		case now.Sub(g.last) > guessForget:
			delete(t.clients, c)
		case !found || g.last.Before(at):
			oldest, at, found = c, g.last, true
		}
	}
	if len(t.clients) >= guessClients && found {
		delete(t.clients, oldest)
	}
}
