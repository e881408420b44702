package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/futago/futago"
)

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		os.Exit(receiveAndTell(os.Stdout))
	}
	// The first socket of a host that asks for time stamps makes the kernel
	// start stamping, a moment later; this one is there before the tests.
	c, err := Listen(context.Background(), Config{Address: "127.0.0.1:0"})
	if err != nil {
		panic(err)
	}
	if err := awaitStamps(c); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = c.Close()
		os.Exit(code)
	}))
}

// awaitStamps returns when the kernel stamps packets as they arrive.
func awaitStamps(c *Conn) error {
	b := newBatch(1, 16)
	defer b.free()
	for range 1000 {
		if _, err := c.pc.WriteToUDPAddrPort([]byte("x"), c.Addr()); err != nil {
			return err
		}
		sent := time.Now().UnixNano()
		var ds []Datagram
		var rerr error
		if err := c.raw.Control(func(fd uintptr) { ds, rerr = b.receive(int(fd)) }); err != nil {
			return err
		}
		if rerr != nil {
			return rerr
		}
		if ds[0].At != 0 && ds[0].At < sent {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("the kernel gives no time stamps")
}

// sink keeps copies of what Run hands over.
type sink struct {
	mu    sync.Mutex
	got   []Datagram
	idles []time.Time
	fail  error
}

func (s *sink) handle(ds []Datagram) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ds {
		d.Data = slices.Clone(d.Data)
		s.got = append(s.got, d)
	}
	return s.fail
}

func (s *sink) idle(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idles = append(s.idles, at)
}

func (s *sink) datagrams() []Datagram {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func (s *sink) waitFor(t *testing.T, n int) []Datagram {
	t.Helper()
	poll(t, fmt.Sprintf("%d datagrams", n), func() bool { return len(s.datagrams()) >= n })
	return s.datagrams()
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func listen(t *testing.T, cfg Config) *Conn {
	t.Helper()
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	c, err := Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// start runs c until the test ends or the returned function is called.
func start(t *testing.T, c *Conn, s *sink) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	res := make(chan error, 1)
	go func() { res <- c.Run(ctx, s.handle, s.idle) }()
	stop = sync.OnceValue(func() error { cancel(); return <-res })
	t.Cleanup(func() { _ = stop() })
	return stop
}

func dial(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c *net.UDPConn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestRun_HandsOverInOrder(t *testing.T) {
	c := listen(t, Config{BatchSize: 7})
	from := dial(t, c.Addr())
	before := time.Now().UnixNano()
	for i := range 100 {
		send(t, from, fmt.Sprintf("message %d", i))
	}
	sent := time.Now().UnixNano()
	s := &sink{}
	stop := start(t, c, s)
	got := s.waitFor(t, 100)
	var last int64
	for i, d := range got {
		if want := fmt.Sprintf("message %d", i); string(d.Data) != want {
			t.Fatalf("datagram %d is %q, want %q", i, d.Data, want)
		}
		if d.Source.String() != from.LocalAddr().String() {
			t.Errorf("source %s, want %s", d.Source, from.LocalAddr())
		}
		// All were sent before the first was read: the stamp is the arrival,
		// not the reading.
		if d.At < before || d.At > sent {
			t.Errorf("time stamp %d outside the sending, %d to %d", d.At, before, sent)
		}
		if d.At <= last {
			t.Errorf("time stamp %d after %d", d.At, last)
		}
		last = d.At
		if d.Truncated || d.Length != len(d.Data) {
			t.Errorf("datagram %d: truncated %v, length %d", i, d.Truncated, d.Length)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	st := c.Status()
	if st.Received != 100 || st.Truncated != 0 || st.KernelDrops != 0 || st.Batches < 15 || st.LastAt.UnixNano() != last {
		t.Errorf("status %+v", st)
	}
}

// A socket that nobody sends to holds nothing back.
func TestRun_SilentSocketStaysIdle(t *testing.T) {
	s := &sink{}
	start(t, listen(t, Config{}), s)
	poll(t, "third idle", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.idles) >= 3 && s.idles[2].Sub(s.idles[0]) >= idleEvery
	})
}

func TestRun_IdleCoversEverythingHandedOver(t *testing.T) {
	c := listen(t, Config{})
	from := dial(t, c.Addr())
	s := &sink{}
	start(t, c, s)
	for i := range 200 {
		send(t, from, "x")
		s.waitFor(t, i+1)
	}
	poll(t, "idle", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.idles) > 0 })
	// The promise: after idle(at) nothing with a stamp at or before at comes.
	c2 := listen(t, Config{})
	var last time.Time
	bad := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var n int
	done := make(chan error, 1)
	go func() {
		done <- c2.Run(ctx, func(ds []Datagram) error {
			for _, d := range ds {
				if d.At <= last.UnixNano() {
					select {
					case bad <- fmt.Sprintf("stamp %d, idle %d", d.At, last.UnixNano()):
					default:
					}
				}
			}
			n += len(ds)
			if n >= 2000 {
				cancel()
			}
			return nil
		}, func(at time.Time) { last = at })
	}()
	from2 := dial(t, c2.Addr())
	for range 2000 {
		send(t, from2, "x")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-bad:
		t.Fatal(m)
	default:
	}
}

func TestRun_Truncates(t *testing.T) {
	c := listen(t, Config{MaxSize: 10})
	from := dial(t, c.Addr())
	send(t, from, "0123456789")
	send(t, from, "0123456789abc")
	send(t, from, "")
	s := &sink{}
	start(t, c, s)
	got := s.waitFor(t, 3)
	want := []struct {
		data string
		n    int
		cut  bool
	}{{"0123456789", 10, false}, {"0123456789", 13, true}, {"", 0, false}}
	for i, w := range want {
		if d := got[i]; string(d.Data) != w.data || d.Length != w.n || d.Truncated != w.cut {
			t.Errorf("datagram %d: %q length %d truncated %v, want %+v", i, d.Data, d.Length, d.Truncated, w)
		}
	}
	poll(t, "count", func() bool { return c.Status().Truncated == 1 })
}

func TestRun_LargestDatagram(t *testing.T) {
	c := listen(t, Config{})
	from := dial(t, c.Addr())
	b := make([]byte, 65507)
	b[65506] = 'e'
	send(t, from, string(b))
	s := &sink{}
	start(t, c, s)
	if d := s.waitFor(t, 1)[0]; len(d.Data) != 65507 || d.Data[65506] != 'e' || d.Truncated {
		t.Errorf("%d bytes, truncated %v", len(d.Data), d.Truncated)
	}
}

func TestStatus_CountsKernelDrops(t *testing.T) {
	c := listen(t, Config{ReceiveBuffer: 8192})
	from := dial(t, c.Addr())
	for range 500 {
		send(t, from, "a message of some length, to fill the buffer")
	}
	before := c.Status()
	if before.KernelDrops == 0 || before.Queued == 0 {
		t.Fatalf("no drops counted: %+v", before)
	}
	s := &sink{}
	stop := start(t, c, s)
	s.waitFor(t, 500-int(before.KernelDrops))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	after := c.Status()
	if after.Received+after.KernelDrops != 500 || after.Queued != 0 {
		t.Errorf("received %d, dropped %d, queued %d: want 500 altogether", after.Received, after.KernelDrops, after.Queued)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := c.Status().KernelDrops; got != after.KernelDrops {
		t.Errorf("drops after close %d, before %d", got, after.KernelDrops)
	}
}

func TestListen_GrantsBuffer(t *testing.T) {
	st := listen(t, Config{ReceiveBuffer: 1 << 20}).Status()
	if st.BufferWanted != 1<<20 || st.BufferGranted < 100<<10 {
		t.Errorf("status %+v", st)
	}
}

func TestListen_DualStack(t *testing.T) {
	c := listen(t, Config{Address: "[::]:0"})
	s := &sink{}
	start(t, c, s)
	port := c.Addr().Port()
	for i, host := range []string{"127.0.0.1", "::1"} {
		from, err := new(net.Dialer).DialContext(t.Context(), "udp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err != nil {
			t.Skipf("no %s here: %v", host, err)
		}
		defer func() { _ = from.Close() }()
		if _, err := from.Write([]byte(host)); err != nil {
			t.Fatal(err)
		}
		d := s.waitFor(t, i+1)[i]
		if d.Source.Addr() != netip.MustParseAddr(host) || string(d.Data) != host {
			t.Errorf("source %s data %q, want %s", d.Source, d.Data, host)
		}
	}
}

func TestReply_FromAddressedAddress(t *testing.T) {
	for _, listenOn := range []string{"0.0.0.0:0", "[::]:0"} {
		t.Run(listenOn, func(t *testing.T) {
			c := listen(t, Config{Address: listenOn, Local: true})
			s := &sink{}
			start(t, c, s)
			// A connected socket takes answers from the very address it sent to.
			from := dial(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), c.Addr().Port()))
			send(t, from, "ask")
			d := s.waitFor(t, 1)[0]
			if d.Local != netip.MustParseAddr("127.0.0.2") {
				t.Fatalf("local address %s", d.Local)
			}
			if err := c.Reply(d, []byte("answer")); err != nil {
				t.Fatal(err)
			}
			if err := from.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			n, err := from.Read(b)
			if err != nil || string(b[:n]) != "answer" {
				t.Errorf("%q, %v", b[:n], err)
			}
		})
	}
}

func TestRun_DrainsWhatArrivedBeforeTheStop(t *testing.T) {
	c := listen(t, Config{BatchSize: 3})
	from := dial(t, c.Addr())
	for range 20 {
		send(t, from, "x")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &sink{}
	if err := c.Run(ctx, s.handle, s.idle); err != nil {
		t.Fatal(err)
	}
	if got := len(s.datagrams()); got != 20 {
		t.Errorf("%d datagrams handed over, want 20", got)
	}
}

func TestRun_HandlerErrorEnds(t *testing.T) {
	c := listen(t, Config{})
	send(t, dial(t, c.Addr()), "x")
	s := &sink{fail: errors.New("no")}
	if err := c.Run(t.Context(), s.handle, s.idle); !errors.Is(err, s.fail) {
		t.Errorf("error %v", err)
	}
}

func TestRun_CloseEnds(t *testing.T) {
	c := listen(t, Config{})
	s := &sink{}
	res := make(chan error, 1)
	go func() { res <- c.Run(context.Background(), s.handle, s.idle) }()
	poll(t, "idle", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.idles) > 0 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-res; err != nil {
		t.Errorf("error %v", err)
	}
}

func TestListen_Errors(t *testing.T) {
	c := listen(t, Config{})
	_, err := Listen(t.Context(), Config{Address: c.Addr().String()})
	if e, ok := errors.AsType[*futago.Error](err); !ok || !errors.Is(err, unix.EADDRINUSE) || e.Action == "" {
		t.Errorf("port in use: %v", err)
	}
	for _, cfg := range []Config{{ReceiveBuffer: 1}, {BatchSize: 5000}, {BatchSize: -1}, {MaxSize: 70000}, {MaxSize: -1}} {
		if _, err := Listen(t.Context(), cfg); futago.CodeOf(err) != futago.CodeInvalid {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestStamp(t *testing.T) {
	const s = int64(time.Second)
	l := &loop{}
	for i, step := range []struct{ at, want int64 }{
		{100 * s, 100 * s},
		{100 * s, 100*s + 1},         // equal
		{100*s - 5000, 100*s + 2},    // overtaken within the host
		{101 * s, 101 * s},           // onwards
		{100 * s, 100 * s},           // the clock was set back
		{3000 * s, 3000 * s},         // and forward
		{3000*s - s + 1, 3000*s + 1}, // just within
	} {
		if got := l.stamp(step.at); got != step.want {
			t.Errorf("step %d: stamp(%d) = %d, want %d", i, step.at, got, step.want)
		}
	}
}

func TestReceive_AllocatesNothing(t *testing.T) {
	c := listen(t, Config{})
	from := dial(t, c.Addr())
	b := newBatch(16, 2048)
	defer b.free()
	msg := []byte("<34>1 2003-10-11T22:14:15.003Z host su - ID47 - 'su root' failed")
	var n int
	allocs := testing.AllocsPerRun(100, func() {
		for range 16 {
			if _, err := from.Write(msg); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.raw.Control(func(fd uintptr) {
			ds, err := b.receive(int(fd))
			if err != nil {
				t.Fatal(err)
			}
			n += len(ds)
		})
	})
	// Two are those of the test's own closure.
	if allocs > 2 || n < 16*100 {
		t.Errorf("%v allocations for 16 datagrams, %d received", allocs, n)
	}
}

// BenchmarkRun measures the loop over loopback into a sink that counts, with a
// sender in the same process. ns/op is per datagram handed over.
func BenchmarkRun(b *testing.B) {
	for _, size := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			c, err := Listen(b.Context(), Config{Address: "127.0.0.1:0", BatchSize: size})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			from, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(c.Addr()))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = from.Close() }()
			// Fill the buffer and empty it by turns, so that the sender's cost
			// stays out of the time.
			msg := make([]byte, 200)
			const round = 20000
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; {
				n := min(left, round)
				b.StopTimer()
				for range n {
					if _, err := from.Write(msg); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				ctx, cancel := context.WithCancel(context.Background())
				got := 0
				if err := c.Run(ctx, func(ds []Datagram) error {
					if got += len(ds); got >= n {
						cancel()
					}
					return nil
				}, func(time.Time) {}); err != nil {
					b.Fatal(err)
				}
				cancel()
				left -= n
			}
			b.StopTimer()
			if st := c.Status(); st.KernelDrops > 0 {
				b.Logf("%d dropped", st.KernelDrops)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}
