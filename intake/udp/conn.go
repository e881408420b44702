package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/futago/futago"
)

// The defaults of Config.
const (
	DefaultReceiveBuffer = 32 << 20
	DefaultBatchSize     = 256
	DefaultMaxSize       = 65535
)

// Config says how to listen.
type Config struct {
	// Address is host:port. An empty host listens on IPv4 and IPv6 alike.
	Address string
	// ReceiveBuffer is the wanted size of the socket's buffer in bytes,
	// [DefaultReceiveBuffer] when 0. A process with CAP_NET_ADMIN gets it
	// whole; another one at most net.core.rmem_max. Status has what was granted.
	ReceiveBuffer int
	// BatchSize is the most datagrams read at once, 1 to 1024,
	// [DefaultBatchSize] when 0.
	BatchSize int
	// MaxSize is the longest datagram in bytes, 1 to 65535, which is also the
	// default. Longer ones are cut and marked.
	MaxSize int
	// Local asks for Datagram.Local, which [Conn.Reply] needs on hosts with
	// several addresses.
	Local  bool
	Logger *slog.Logger
}

// Datagram is one datagram of a batch.
type Datagram struct {
	// At is the time of arrival in nanoseconds since 1970: the kernel's time
	// stamp, taken when the packet entered the host. Within one Conn it never
	// goes back by less than a second (a larger step back is the clock being
	// set), and it is always after the time of the last call of idle.
	At int64
	// Source is unmapped from IPv4-in-IPv6. A link-local address has the
	// index of the interface as its zone.
	Source netip.AddrPort
	// Local is the address that the datagram was sent to, when Config.Local is set.
	Local netip.Addr
	// Data is valid until the handler returns.
	Data []byte
	// Length is the datagram's own length; it is above len(Data) when Truncated.
	Length    int
	Truncated bool
}

// Status is a snapshot of the counters of a Conn since Listen.
type Status struct {
	Address string `json:"address"`
	// BufferWanted and BufferGranted are the receive buffer in bytes. The
	// kernel accounts about twice as much for its own bookkeeping.
	BufferWanted  int `json:"buffer_wanted"`
	BufferGranted int `json:"buffer_granted"`
	// Queued is what waits in the buffer now, in bytes as the kernel accounts
	// them: it drops datagrams when this would pass twice BufferGranted.
	Queued    uint64 `json:"queued"`
	Received  uint64 `json:"received"`  // datagrams handed over
	Bytes     uint64 `json:"bytes"`     // of their data
	Truncated uint64 `json:"truncated"` // datagrams that were cut
	Batches   uint64 `json:"batches"`
	// KernelDrops counts datagrams that reached the socket and were dropped
	// by the kernel, nearly always because the buffer was full.
	KernelDrops uint64 `json:"kernel_drops"`
	// LastAt is the arrival of the newest datagram; zero when there was none.
	LastAt time.Time `json:"last_at,omitzero"`
}

// Conn is a bound datagram socket. All methods but Run may be called at any
// time from any goroutine.
type Conn struct {
	cfg     Config
	log     *slog.Logger
	pc      *net.UDPConn
	raw     syscall.RawConn
	six     bool // the socket is of family AF_INET6
	granted int

	received, bytes, truncated, batches atomic.Uint64
	lastAt                              atomic.Int64

	dropMu    sync.Mutex
	lastDrops uint32 // the kernel's counter, which wraps
	drops     uint64

	closeOnce sync.Once
	closeErr  error
}

// Listen binds the socket. The kernel queues datagrams from then on, so that
// nothing is lost between Listen and Run.
func Listen(ctx context.Context, cfg Config) (*Conn, error) {
	if cfg.ReceiveBuffer == 0 {
		cfg.ReceiveBuffer = DefaultReceiveBuffer
	}
	if cfg.BatchSize == 0 {
		cfg.BatchSize = DefaultBatchSize
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	switch {
	case cfg.ReceiveBuffer < 4096 || cfg.ReceiveBuffer > math.MaxInt32/2:
		return nil, futago.Errorf(futago.CodeInvalid, "receive buffer of %d bytes is out of range", cfg.ReceiveBuffer).
			WithAction("use 4096 to %d", math.MaxInt32/2)
	case cfg.BatchSize < 1 || cfg.BatchSize > 1024: // the kernel's UIO_MAXIOV
		return nil, futago.Errorf(futago.CodeInvalid, "batch size %d is out of range", cfg.BatchSize).WithAction("use 1 to 1024")
	case cfg.MaxSize < 1 || cfg.MaxSize > 65535:
		return nil, futago.Errorf(futago.CodeInvalid, "datagram size %d is out of range", cfg.MaxSize).WithAction("use 1 to 65535")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Conn{cfg: cfg, log: cfg.Logger.With("component", "udp", "address", cfg.Address)}

	var optErr error
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		if err := rc.Control(func(fd uintptr) { optErr = c.setOptions(int(fd)) }); err != nil {
			return err
		}
		return optErr
	}}
	pc, err := lc.ListenPacket(ctx, "udp", cfg.Address)
	if err != nil {
		return nil, listenError(cfg.Address, err)
	}
	c.pc = pc.(*net.UDPConn)
	c.cfg.Address = c.pc.LocalAddr().String()
	if c.raw, err = c.pc.SyscallConn(); err != nil {
		return nil, errors.Join(err, c.pc.Close())
	}
	if c.granted < cfg.ReceiveBuffer {
		c.log.Warn("receive buffer is smaller than wanted; a burst may be dropped",
			"wanted", cfg.ReceiveBuffer, "granted", c.granted,
			"action", fmt.Sprintf("grant CAP_NET_ADMIN or set sysctl net.core.rmem_max=%d", cfg.ReceiveBuffer))
	}
	return c, nil
}

func listenError(address string, err error) error {
	e := futago.Errorf(futago.CodeUnavailable, "cannot listen on udp %s", address).Wrap(err)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return e.WithAction("another program has this port; find it with: ss -lunp")
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return e.WithAction("ports under 1024 need CAP_NET_BIND_SERVICE")
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return e.WithAction("this host does not have the address; see: ip address")
	}
	return e
}

// setOptions runs on the socket before it is bound, so that the first datagram
// already finds the large buffer and has a time stamp.
func (c *Conn) setOptions(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("SO_DOMAIN: %w", err)
	}
	c.six = domain == unix.AF_INET6
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, c.cfg.ReceiveBuffer); err != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, c.cfg.ReceiveBuffer); err != nil {
			return fmt.Errorf("SO_RCVBUF: %w", err)
		}
	}
	doubled, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return fmt.Errorf("SO_RCVBUF: %w", err)
	}
	c.granted = doubled / 2 // socket(7): the kernel doubles what it was asked for
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("SO_TIMESTAMPNS: %w", err)
	}
	if c.cfg.Local {
		level, opt := unix.IPPROTO_IP, unix.IP_PKTINFO
		if c.six {
			level, opt = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
			return fmt.Errorf("packet information: %w", err)
		}
	}
	return nil
}

// Addr returns the address that the socket is bound to.
func (c *Conn) Addr() netip.AddrPort {
	a := c.pc.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Reply sends b back to where d came from, from the address that d was sent
// to when Config.Local is set. d.Data is not used, so a copy of the other
// fields may be kept for it.
func (c *Conn) Reply(d Datagram, b []byte) error {
	var oob []byte
	if d.Local.IsValid() {
		if c.six {
			oob = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: d.Local.As16()})
		} else {
			oob = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: d.Local.As4()})
		}
	}
	_, _, err := c.pc.WriteMsgUDPAddrPort(b, oob, d.Source)
	return err
}

// Status reads the counters, those of the kernel too.
func (c *Conn) Status() Status {
	s := Status{
		Address: c.cfg.Address, BufferWanted: c.cfg.ReceiveBuffer, BufferGranted: c.granted,
		Received: c.received.Load(), Bytes: c.bytes.Load(), Truncated: c.truncated.Load(),
		Batches: c.batches.Load(),
	}
	if at := c.lastAt.Load(); at != 0 {
		s.LastAt = time.Unix(0, at)
	}
	s.Queued, s.KernelDrops = c.kernel()
	return s
}

// kernel asks the socket what waits in its buffer and what was dropped. After
// Close it answers with the last drops known.
func (c *Conn) kernel() (queued, drops uint64) {
	c.dropMu.Lock()
	defer c.dropMu.Unlock()
	_ = c.raw.Control(func(fd uintptr) { // fails only after Close
		m, err := memInfo(int(fd))
		if err != nil {
			return
		}
		queued = uint64(m[memRmemAlloc])
		c.drops += uint64(m[memDrops] - c.lastDrops)
		c.lastDrops = m[memDrops]
	})
	return queued, c.drops
}

// Close unbinds the socket. A Run in progress returns.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		c.kernel() // keep the final count of drops
		c.closeErr = c.pc.Close()
	})
	return c.closeErr
}
