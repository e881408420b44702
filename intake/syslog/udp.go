package syslog

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/udp"
)

// The limits on the length of a message, in bytes.
const (
	DefaultMaxMessage = 64 << 10
	MinMaxMessage     = 1 << 10
	MaxMaxMessage     = 1 << 20
)

// UDPConfig says where and how to receive datagrams.
type UDPConfig struct {
	// Address is host:port; an empty host is every address of the machine.
	Address string
	// ReceiveBuffer is the socket's buffer in bytes, 0 for the default of
	// package udp.
	ReceiveBuffer int
	// MaxMessage is the longest message in bytes, 1 KiB to 1 MiB, 64 KiB when
	// 0. A datagram never has more than 65,507.
	MaxMessage int
	Producer   Producer
	Logger     *slog.Logger
}

// UDPStatus is a snapshot of the counters since the start.
type UDPStatus struct {
	Address string `json:"address"`
	// Received and Bytes count messages that the spool took.
	Received uint64 `json:"received"`
	Bytes    uint64 `json:"bytes"`
	// Truncated counts messages that were longer than the limit.
	Truncated uint64 `json:"truncated"`
	// Refused counts messages that are lost because the spool did not take
	// them, KernelDrops those lost because the socket's buffer was full.
	Refused     uint64 `json:"refused"`
	KernelDrops uint64 `json:"kernel_drops"`
	// BufferWanted, BufferGranted and Queued are bytes of the socket's buffer.
	BufferWanted  int       `json:"buffer_wanted"`
	BufferGranted int       `json:"buffer_granted"`
	Queued        uint64    `json:"queued"`
	LastAt        time.Time `json:"last_at,omitzero"`
}

// UDP receives syslog datagrams (RFC 5426): each is one message. Its methods
// may be called from any goroutine.
type UDP struct {
	cfg     UDPConfig
	log     *slog.Logger
	conn    *udp.Conn
	refused atomic.Uint64
	lost    atomic.Uint64 // bytes of the refused
	quiet   quiet
	recs    []futago.Received
}

// ListenUDP binds the socket. Messages queue in it until Run.
func ListenUDP(ctx context.Context, cfg UDPConfig) (*UDP, error) {
	if err := checkMax(&cfg.MaxMessage); err != nil {
		return nil, err
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	conn, err := udp.Listen(ctx, udp.Config{
		Address: cfg.Address, ReceiveBuffer: cfg.ReceiveBuffer, MaxSize: min(cfg.MaxMessage, udp.DefaultMaxSize), Logger: log,
	})
	if err != nil {
		return nil, err
	}
	u := &UDP{cfg: cfg, log: log.With("component", "syslog/udp"), conn: conn}
	return u, nil
}

func checkMax(most *int) error {
	if *most == 0 {
		*most = DefaultMaxMessage
	}
	if *most < MinMaxMessage || *most > MaxMaxMessage {
		return futago.Errorf(futago.CodeInvalid, "longest message of %d bytes is out of range", *most).
			WithAction("use %d to %d", MinMaxMessage, MaxMaxMessage)
	}
	return nil
}

// Run receives until ctx ends; call it once. It then still takes what had
// arrived in the socket. Messages that the spool refuses are counted and lost:
// a datagram's sender cannot be made to wait.
func (u *UDP) Run(ctx context.Context) error {
	return u.conn.Run(ctx, u.handle, u.cfg.Producer.Idle)
}

func (u *UDP) handle(ds []udp.Datagram) error {
	u.recs = u.recs[:0]
	for i := range ds {
		d := &ds[i]
		u.recs = append(u.recs, futago.Received{
			At: d.At, Kind: futago.KindSyslog, Transport: futago.TransportUDP,
			Source: plainSource(d.Source), Raw: d.Data, Truncated: d.Truncated,
		})
	}
	if _, err := u.cfg.Producer.Append(u.recs); err != nil {
		out := refused(u.recs)
		u.refused.Add(uint64(len(out)))
		for i := range out {
			u.lost.Add(uint64(len(out[i].Raw)))
		}
		if u.quiet.allow() {
			u.log.Error("messages are lost: the spool refuses them", "error", err, "lost", u.refused.Load())
		}
	}
	return nil
}

// plainSource takes the zone off a link-local address: it names an interface
// of this manager, which says nothing about the sender.
func plainSource(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Zone() == "" {
		return a
	}
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

// Addr returns the address that the socket is bound to.
func (u *UDP) Addr() netip.AddrPort { return u.conn.Addr() }

// Close closes the socket; a Run in progress returns.
func (u *UDP) Close() error { return u.conn.Close() }

// Status reads the counters.
func (u *UDP) Status() UDPStatus {
	// In this order, so that what is refused was received.
	refused, lost := u.refused.Load(), u.lost.Load()
	s := u.conn.Status()
	return UDPStatus{
		Address: s.Address, Received: s.Received - min(refused, s.Received), Bytes: s.Bytes - min(lost, s.Bytes),
		Truncated: s.Truncated, Refused: refused, KernelDrops: s.KernelDrops,
		BufferWanted: s.BufferWanted, BufferGranted: s.BufferGranted, Queued: s.Queued, LastAt: s.LastAt,
	}
}

// quiet keeps an event that may happen a thousand times a second from filling
// the log: it allows one line in ten seconds.
type quiet struct{ next atomic.Int64 }

func (q *quiet) allow() bool {
	now := time.Now().UnixNano()
	next := q.next.Load()
	return now >= next && q.next.CompareAndSwap(next, now+int64(10*time.Second))
}
