package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/integration/rig"
)

// nemesis does harm to a cluster, by a seed, and undoes it: one fault after
// another and some at once, with one receiver at least always up.
type nemesis struct {
	r   *rig.Rig
	rng *rand.Rand
	up  *generate.Presence

	mu    sync.Mutex // guards what follows
	log   []string
	downs map[string]int // how often each manager went down
	// dead is since when a manager's links were dead, until it was certainly up
	// again: a sender's TCP that repeats into a second outage notices nothing of
	// the time in between.
	dead map[string]time.Time
}

// act is one fault; it returns what undoes it.
type act struct {
	name string
	// receiver says that a manager may miss traps meanwhile, so that no other
	// such fault may run at the same time.
	receiver bool
	// limit, when set, is how long it may last at most: messages over
	// connections are stamped when they are read, so a receiver that gets one
	// later than copies pair (TCP repeats after up to the double of an
	// outage) would rightly count it twice.
	limit time.Duration
	do    func(n *nemesis, host string) (undo func())
}

var acts = []act{
	{"kill -9", true, 0, func(n *nemesis, host string) func() {
		n.down(host)
		n.must(n.r.Process(host).Kill9())
		return func() { n.start(host) }
	}},
	{"power off", true, 0, func(n *nemesis, host string) func() {
		n.down(host)
		n.must(n.r.Lab.Host(host).PowerOff())
		n.linksDead(host)
		return func() { n.must(n.r.Lab.Host(host).PowerOn()); n.start(host) }
	}},
	{"isolate", true, 2 * time.Second, func(n *nemesis, host string) func() {
		n.down(host)
		n.must(n.r.Lab.Isolate(host))
		n.linksDead(host)
		return func() { n.must(n.r.Lab.Rejoin(host)); n.reachable(host) }
	}},
	{"freeze", false, 3 * time.Second, func(n *nemesis, host string) func() {
		n.must(n.r.Process(host).Freeze())
		return func() { n.must(n.r.Process(host).Thaw()) }
	}},
	{"cut a|b", false, 0, func(n *nemesis, _ string) func() {
		n.must(n.r.Lab.Cut("a", "b"))
		return func() { n.must(n.r.Lab.Heal("a", "b")) }
	}},
	{"cut one way to the peer", false, 0, func(n *nemesis, host string) func() {
		n.must(n.r.Lab.CutOneWay(host, peer(host)))
		return func() { n.must(n.r.Lab.Heal("a", "b")) }
	}},
	{"cut from the witness", false, 0, func(n *nemesis, host string) func() {
		n.must(n.r.Lab.Cut(host, "w"))
		return func() { n.must(n.r.Lab.Heal(host, "w")) }
	}},
	{"kill the witness", false, 0, func(n *nemesis, _ string) func() {
		n.must(n.r.Process("w").Kill9())
		return func() { n.r.Start("w") }
	}},
	{"freeze the witness", false, 0, func(n *nemesis, _ string) func() {
		n.must(n.r.Process("w").Freeze())
		return func() { n.must(n.r.Process("w").Thaw()) }
	}},
	{"planned switch", false, 0, func(n *nemesis, host string) func() {
		c := n.r.Client(host)
		defer c.Close()
		_ = c.Do(n.r.TB.Context(), "POST", "/api/v1/switch", "", nil, nil) // a standby refuses
		return func() {}
	}},
}

// settle is how long a link or a receiver may take to work again.
const settle = 500 * time.Millisecond

// run harms until the time is over, then heals everything.
func (n *nemesis) run(ctx context.Context) {
	for ctx.Err() == nil {
		first := n.pick(nil)
		undo := n.begin(first)
		var undo2 func()
		if n.rng.IntN(3) == 0 {
			n.sleep(ctx, 0, 1500*time.Millisecond)
			undo2 = n.begin(n.pick(&first))
		}
		// Mostly short; sometimes longer than the time within which copies pair.
		if n.rng.IntN(6) == 0 {
			n.sleep(ctx, pairWithin, pairWithin+6*time.Second)
		} else {
			n.sleep(ctx, 200*time.Millisecond, 4*time.Second)
		}
		if undo2 != nil && n.rng.IntN(2) == 0 {
			undo2()
			undo2 = nil
			n.sleep(ctx, 0, time.Second)
		}
		undo()
		if undo2 != nil {
			n.sleep(ctx, 0, time.Second)
			undo2()
		}
		n.sleep(ctx, 300*time.Millisecond, 3*time.Second)
	}
}

// pick chooses a fault that may run beside another.
func (n *nemesis) pick(beside *act) act {
	for {
		a := acts[n.rng.IntN(len(acts))]
		if beside == nil || !a.clashes(*beside) {
			return a
		}
	}
}

// clashes reports whether two faults harm the same thing: both managers'
// receivers, both ways of one cut, or the witness twice.
func (a act) clashes(b act) bool {
	both := func(f func(act) bool) bool { return f(a) && f(b) }
	return both(func(x act) bool { return x.receiver || x.name == "freeze" }) ||
		both(func(x act) bool { return strings.HasPrefix(x.name, "cut") }) ||
		both(func(x act) bool {
			return strings.HasSuffix(x.name, " the witness") && !strings.HasPrefix(x.name, "cut")
		}) ||
		a.name == b.name
}

func (n *nemesis) begin(a act) func() {
	host := "a"
	if n.rng.IntN(2) == 0 {
		host = "b"
	}
	// Faults of the leader are the interesting ones.
	if n.rng.IntN(2) == 0 {
		if l := n.r.Leader(); l != "" {
			host = l
		}
	}
	n.note("%s (%s)", a.name, host)
	undo := a.do(n, host)
	once := sync.OnceFunc(func() { undo(); n.note("end of %s (%s)", a.name, host) })
	if a.limit > 0 {
		time.AfterFunc(a.limit, once)
	}
	return once
}

func (n *nemesis) start(host string) {
	n.r.Start(host)
	n.r.Ready(host)
	n.reachable(host)
}

func (n *nemesis) down(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.downs[host]++
	n.up.Down(member(host), time.Now())
}

func (n *nemesis) linksDead(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead[host].IsZero() {
		n.dead[host] = time.Now()
	}
}

// reachable says that a manager can be reached again: at once, or, if its links were
// dead, once a sender's TCP must have noticed. It goes on writing into a connection
// that nobody has any more until its next repetition, which is at most as far away as
// it has been without an answer.
func (n *nemesis) reachable(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	off, dead := n.dead[host]
	if !dead {
		n.up.Up(member(host), time.Now())
		return
	}
	at := n.downs[host]
	time.AfterFunc(time.Since(off)+settle, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.downs[host] == at {
			delete(n.dead, host)
			n.up.Up(member(host), time.Now())
		}
	})
}

func (n *nemesis) must(err error) {
	n.r.TB.Helper()
	if err != nil {
		n.r.TB.Fatalf("nemesis: %v", err)
	}
}

func (n *nemesis) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// sleep waits a random time between the two.
func (n *nemesis) sleep(ctx context.Context, least, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(least + time.Duration(n.rng.Int64N(int64(most-least)))):
	}
}
