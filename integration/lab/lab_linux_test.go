package lab_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/futago/futago/integration/lab"
)

func TestMain(m *testing.M) { lab.Main(m, goleak.Find) }

// fabrics runs a test on both fabrics.
func fabrics(t *testing.T, f func(t *testing.T, fab lab.Fabric)) {
	t.Run("bridge", func(t *testing.T) { f(t, lab.Bridge) })
	t.Run("switch", func(t *testing.T) { f(t, lab.Switch) })
}

// until polls a condition for at most ten seconds.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// inbox is a UDP socket on a host that notes what comes in.
type inbox struct {
	conn net.PacketConn
	got  chan string
}

func open(t *testing.T, h *lab.Host) *inbox {
	t.Helper()
	c, err := h.ListenPacket(t.Context(), "udp", ":9")
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := c.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(4 << 20)
	}
	b := &inbox{conn: c, got: make(chan string, 100000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			b.got <- string(buf[:n])
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return b
}

func (b *inbox) send(t *testing.T, to *lab.Host, text string) {
	t.Helper()
	if _, err := b.conn.WriteTo([]byte(text), net.UDPAddrFromAddrPort(to.AddrPort(9))); err != nil {
		t.Fatal(err)
	}
}

// reaches reports whether a datagram gets from one host to the other. That it
// does not is told apart from that it is late by a second datagram over a way
// that works: host w relays it.
func reaches(t *testing.T, boxes map[string]*inbox, l *lab.Lab, from, to string) bool {
	t.Helper()
	probe := fmt.Sprintf("%s-%s-%d", from, to, time.Now().UnixNano())
	boxes[from].send(t, l.Host(to), probe)
	boxes[from].send(t, l.Host("w"), "relay")
	<-boxes["w"].got
	boxes["w"].send(t, l.Host(to), "marker")
	deadline := time.After(10 * time.Second)
	seen := false
	for {
		select {
		case m := <-boxes[to].got:
			switch m {
			case probe:
				seen = true
			case "marker":
				return seen
			}
		case <-deadline:
			t.Fatal("the marker did not arrive")
		}
	}
}

func TestCut(t *testing.T) {
	fabrics(t, func(t *testing.T, fab lab.Fabric) {
		l := lab.New(t, lab.Config{Fabric: fab})
		boxes := make(map[string]*inbox)
		for _, h := range l.Hosts() {
			boxes[h.Name()] = open(t, h)
		}
		want := func(step string, ab, ba, d1a bool) {
			t.Helper()
			if got := reaches(t, boxes, l, "a", "b"); got != ab {
				t.Errorf("%s: a to b: %v", step, got)
			}
			if got := reaches(t, boxes, l, "b", "a"); got != ba {
				t.Errorf("%s: b to a: %v", step, got)
			}
			if got := reaches(t, boxes, l, "d1", "a"); got != d1a {
				t.Errorf("%s: d1 to a: %v", step, got)
			}
		}
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		want("whole", true, true, true)
		do(l.Cut("a", "b"))
		want("cut", false, false, true)
		if n := l.Stats("a", "b").Cut; n == 0 {
			t.Error("the cut link counted no frame")
		}
		do(l.Heal("a", "b"))
		want("healed", true, true, true)
		do(l.CutOneWay("a", "b"))
		want("cut one way", false, true, true)
		do(l.HealAll())
		want("all healed", true, true, true)
		do(l.CutOneWay("d1", "a"))
		want("device cut", true, true, false)
		if got := reaches(t, boxes, l, "d1", "b"); !got {
			t.Error("d1 to b is cut too")
		}
	})
}

// A cut hits connections that exist, is silent, and leaves them alive.
func TestCutConnection(t *testing.T) {
	fabrics(t, func(t *testing.T, fab lab.Fabric) {
		l := lab.New(t, lab.Config{Fabric: fab})
		ln, err := l.Host("b").Listen(t.Context(), "tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		client, err := l.Host("a").DialContext(t.Context(), "tcp", l.Host("b").AddrPort(80).String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if got, want := client.LocalAddr().String(), l.Host("a").Addr().String()+":"; !strings.HasPrefix(got, want) {
			t.Errorf("dialled from %s, not from host a", got)
		}
		if err := l.Cut("a", "b"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(client, "hello"); err != nil {
			t.Fatalf("write over a cut link: %v; a cut is silent", err)
		}
		until(t, "the cut link drops a frame", func() bool { return l.Stats("a", "b").Cut > 0 })
		buf := make([]byte, 5)
		_ = server.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := server.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read %d bytes, %v over a cut link", n, err)
		}
		if err := l.Heal("a", "b"); err != nil {
			t.Fatal(err)
		}
		_ = server.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "hello" {
			t.Fatalf("read %q, %v after the link was healed", buf, err)
		}
	})
}

func TestIPv6(t *testing.T) {
	fabrics(t, func(t *testing.T, fab lab.Fabric) {
		l := lab.New(t, lab.Config{Fabric: fab, Hosts: []string{"a", "b"}})
		ln, err := l.Host("b").Listen(t.Context(), "tcp6", ":80")
		if err != nil {
			t.Skipf("no IPv6 here: %v", err)
		}
		defer ln.Close()
		c, err := l.Host("a").DialContext(t.Context(), "tcp6", net.JoinHostPort(l.Host("b").Addr6().String(), "80"))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

func TestDelay(t *testing.T) {
	l := lab.New(t, lab.Config{Fabric: lab.Switch, Hosts: []string{"a", "b"}})
	const delay = 60 * time.Millisecond
	if err := l.Delay("a", "b", delay, 5*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	a, b := open(t, l.Host("a")), open(t, l.Host("b"))
	start := time.Now()
	const n = 100
	for i := range n {
		a.send(t, l.Host("b"), strconv.Itoa(i))
	}
	for i := range n {
		if got := <-b.got; got != strconv.Itoa(i) {
			t.Fatalf("datagram %d is %s: the order is lost", i, got)
		}
		if i == 0 {
			if d := time.Since(start); d < delay {
				t.Errorf("arrived after %v, before the delay of %v", d, delay)
			}
		}
	}
	// The way back is not delayed: 100 round trips cost no more than theirs.
	b.send(t, l.Host("a"), "back")
	<-a.got
	if s := l.Stats("b", "a"); s.Passed == 0 || s.Reordered != 0 {
		t.Errorf("way back: %+v", s)
	}
}

// Loss, duplicates and reordering lie within five standard deviations.
func TestLinkStatistics(t *testing.T) {
	const n = 4000
	run := func(t *testing.T, link lab.Link) (lab.LinkStats, []string) {
		l := lab.New(t, lab.Config{Fabric: lab.Switch, Hosts: []string{"a", "b"}, Seed: 7})
		if err := l.Shape("a", "b", link); err != nil {
			t.Fatal(err)
		}
		a, b := open(t, l.Host("a")), open(t, l.Host("b"))
		for i := range n {
			a.send(t, l.Host("b"), strconv.Itoa(i))
			if i%200 == 199 { // do not outrun the buffers
				until(t, "the switch has caught up", func() bool {
					s := l.Stats("a", "b")
					return s.Passed+s.Lost-s.Duplicated >= uint64(i+1)
				})
			}
		}
		s := l.Stats("a", "b")
		if err := l.Heal("a", "b"); err != nil {
			t.Fatal(err)
		}
		a.send(t, l.Host("b"), "end")
		var got []string
		for {
			select {
			case m := <-b.got:
				if m == "end" {
					return s, got
				}
				got = append(got, m)
			case <-time.After(10 * time.Second):
				t.Fatalf("no end after %d datagrams", len(got))
			}
		}
	}
	within := func(t *testing.T, what string, got uint64, p float64) {
		t.Helper()
		mean, sd := n*p, 0.0
		for sd*sd < n*p*(1-p) {
			sd++
		}
		if d := float64(got) - mean; d < -5*sd || d > 5*sd {
			t.Errorf("%s: %d of %d, want about %.0f", what, got, n, mean)
		}
	}
	t.Run("loss", func(t *testing.T) {
		s, first := run(t, lab.Link{Loss: 0.2})
		within(t, "lost", s.Lost, 0.2)
		if n-len(first) != int(s.Lost) {
			t.Errorf("%d arrived and %d were lost of %d", len(first), s.Lost, n)
		}
		_, second := run(t, lab.Link{Loss: 0.2})
		if strings.Join(first, " ") != strings.Join(second, " ") {
			t.Error("the same seed lost other frames")
		}
	})
	t.Run("duplicate", func(t *testing.T) {
		s, got := run(t, lab.Link{Duplicate: 0.1})
		within(t, "duplicated", s.Duplicated, 0.1)
		if len(got)-n != int(s.Duplicated) {
			t.Errorf("%d arrived and %d were doubled of %d", len(got), s.Duplicated, n)
		}
	})
	t.Run("reorder", func(t *testing.T) {
		s, got := run(t, lab.Link{Delay: 2 * time.Millisecond, Reorder: 0.05})
		within(t, "reordered", s.Reordered, 0.05)
		late := 0
		for i := 1; i < len(got); i++ {
			x, _ := strconv.Atoi(got[i-1])
			if y, _ := strconv.Atoi(got[i]); y < x {
				late++
			}
		}
		if late == 0 {
			t.Error("no datagram overtook another one")
		}
	})
}

func TestBridgeCannotShape(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a", "b"}})
	if err := l.Loss("a", "b", 0.5); !errors.Is(err, lab.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

func TestProcess(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a", "b"}})
	ctx := t.Context()
	t.Run("exit status", func(t *testing.T) {
		out, err := l.Host("a").Run(ctx, lab.Proc{Path: "sh", Args: []string{"-c", "echo $WORD; ip -o addr 2>/dev/null || cat /proc/net/fib_trie; exit 3"}, Env: []string{"WORD=xyzzy"}})
		if err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(out, "xyzzy") || !strings.Contains(out, "10.77.0.10") {
			t.Errorf("output %q", out)
		}
	})
	// A counter's file grows while it runs and not while it is frozen.
	count := filepath.Join(l.Dir(), "count")
	p, err := l.Host("a").Start(ctx, lab.Proc{Path: "sh", Args: []string{"-c", `while :; do echo x >>"$0"; done`, count}})
	if err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		st, err := os.Stat(count)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	until(t, "it counts", func() bool { return size() > 10 })
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	frozen := size()
	for range 20 {
		time.Sleep(time.Millisecond)
		if size() != frozen {
			t.Fatal("a frozen process goes on")
		}
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	until(t, "it counts again", func() bool { return size() > frozen })
	if err := p.Kill9(); err != nil {
		t.Fatal(err)
	}
	if p.Running() || p.Wait(ctx) == nil {
		t.Error("it still runs, or ended well")
	}
	if err := p.Terminate(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to the dead: %v", err)
	}
}

// A name would be resolved outside of the host, so it is refused.
func TestDialRefusesNames(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a"}})
	for _, address := range []string{"localhost:80", "10.77.0.10:http", "10.77.0.10"} {
		if _, err := l.Host("a").DialContext(t.Context(), "tcp", address); err == nil || errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// PowerOff takes grandchildren along and sends no good-byes.
func TestPowerOff(t *testing.T) {
	fabrics(t, func(t *testing.T, fab lab.Fabric) {
		l := lab.New(t, lab.Config{Fabric: fab, Hosts: []string{"a", "b"}})
		a, b := l.Host("a"), l.Host("b")
		pidFile := filepath.Join(l.Dir(), "pid")
		p, err := a.Start(t.Context(), lab.Proc{Path: "sh", Args: []string{"-c", `sleep 300 & echo $! >"$0.new"; mv "$0.new" "$0"; wait`, pidFile}})
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		until(t, "the grandchild runs", func() bool {
			s, _ := os.ReadFile(pidFile)
			pid, _ = strconv.Atoi(strings.TrimSpace(string(s)))
			return pid > 0
		})
		if err := a.PowerOff(); err != nil {
			t.Fatal(err)
		}
		until(t, "the grandchild is gone", func() bool { return gone(pid) })
		<-p.Done()
		if _, err := a.Start(t.Context(), lab.Proc{Path: "true"}); err == nil {
			t.Error("a process starts on a host without power")
		}
		if err := l.HealAll(); err != nil {
			t.Fatal(err)
		}
		box := open(t, b)
		a0 := open(t, a)
		a0.send(t, b, "lost")
		until(t, "the dead link drops it", func() bool { return l.Stats("a", "b").Cut > 0 })
		if err := a.PowerOn(); err != nil {
			t.Fatal(err)
		}
		a0.send(t, b, "here")
		if got := <-box.got; got != "here" {
			t.Errorf("got %q", got)
		}
	})
}

func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestSmallDisk(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a"}})
	d, err := l.Host("a").SmallDisk(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(d.Path(), "file")
	if err := d.Fill(0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, make([]byte, 8192), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("write to a full disk: %v", err)
	}
	if err := d.Free(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, make([]byte, 8192), 0o600); err != nil {
		t.Errorf("write after Free: %v", err)
	}
	if err := d.Fill(64 << 10); err != nil {
		t.Fatal(err)
	}
	if room, err := d.Room(); err != nil || room > 64<<10 || room < 32<<10 {
		t.Errorf("room %d, %v after leaving 64 KiB", room, err)
	}
}

func TestClockJumpSaysWhy(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a"}})
	if err := l.Host("a").ClockJump(time.Hour); !errors.Is(err, lab.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}
