package raftfsm

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

// The protocols of the member link, chosen by ALPN on one port.
const (
	protoRaft  = "futago-raft/1"
	protoTraps = "futago-traps/1"
	protoRPC   = "http/1.1"
)

// handshakeTimeout bounds the TLS handshake of either end of the member link.
const handshakeTimeout = 5 * time.Second

// Link is the member link: one TCP port, mutual TLS, over which Raft, the trap
// stream and the peers' requests travel.
type Link struct {
	log  *slog.Logger
	node cluster.Node
	keys *cluster.Keys
	ln   net.Listener

	refused *repeats

	mu    sync.Mutex // guards addrs
	addrs map[futago.MemberID]string

	raft, traps, rpc chan net.Conn
	done             chan struct{}
	closeOnce        sync.Once
	wg               sync.WaitGroup
}

// Listen opens the member link on address.
func Listen(ctx context.Context, address string, node cluster.Node, keys *cluster.Keys, log *slog.Logger) (*Link, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, futago.Errorf(futago.CodeUnavailable, "cannot listen on cluster address %s", address).
			WithAction("check cluster_listen in the configuration, and what else holds that port (ss -ltnp)").Wrap(err)
	}
	l := &Link{
		log: log.With("component", "link"), node: node, keys: keys, ln: ln, refused: newRepeats(time.Now), addrs: map[futago.MemberID]string{},
		raft: make(chan net.Conn), traps: make(chan net.Conn), rpc: make(chan net.Conn), done: make(chan struct{}),
	}
	for m, a := range node.Members {
		l.addrs[m] = a.Cluster
	}
	l.wg.Go(l.accept)
	return l, nil
}

// SetAddress tells where a member is, from now on.
func (l *Link) SetAddress(m futago.MemberID, addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addrs[m] = addr
}

func (l *Link) address(m futago.MemberID) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.addrs[m]
	return a, ok
}

// Addr is the address that the link listens on.
func (l *Link) Addr() net.Addr { return l.ln.Addr() }

// Close closes the port and waits for the accepting goroutines. Connections
// handed out belong to their takers.
func (l *Link) Close() error {
	var err error
	l.closeOnce.Do(func() {
		close(l.done)
		err = l.ln.Close()
		l.wg.Wait()
	})
	return err
}

func (l *Link) accept() {
	cfg := l.keys.PeerTLS(l.node.ClusterID, "", protoRaft, protoTraps, protoRPC)
	for {
		c, err := l.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.log.Warn("accept", "err", err)
			select {
			case <-time.After(50 * time.Millisecond): // out of file descriptors, most likely
			case <-l.done:
				return
			}
			continue
		}
		l.wg.Go(func() { l.handshake(tls.Server(c, cfg)) })
	}
}

func (l *Link) handshake(c *tls.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	err := c.HandshakeContext(ctx)
	stop()
	if err != nil {
		remote := c.RemoteAddr().String()
		if left, ok := l.refused.logs(remote + err.Error()); ok {
			l.log.Warn("member link refused", "remote", remote, "err", err, "repeated", left)
		}
		_ = c.Close()
		return
	}
	to := l.rpc
	switch c.ConnectionState().NegotiatedProtocol {
	case protoRaft:
		to = l.raft
	case protoTraps:
		to = l.traps
	}
	select {
	case to <- c:
	case <-ctx.Done(): // nobody serves now; the other end dials again
		_ = c.Close()
	case <-l.done:
		_ = c.Close()
	}
}

// dial connects to a member with the given protocol.
func (l *Link) dial(ctx context.Context, m futago.MemberID, proto string) (net.Conn, error) {
	addr, ok := l.address(m)
	if !ok {
		return nil, futago.Errorf(futago.CodeUnavailable, "member %s has not joined", m)
	}
	d := tls.Dialer{Config: l.keys.PeerTLS(l.node.ClusterID, m, proto)}
	return d.DialContext(ctx, "tcp", addr)
}

// sublistener is the net.Listener of one protocol.
type sublistener struct {
	l  *Link
	ch chan net.Conn
}

func (s sublistener) Accept() (net.Conn, error) {
	select {
	case c := <-s.ch:
		return c, nil
	case <-s.l.done:
		return nil, net.ErrClosed
	}
}

// Close does nothing: the port belongs to the Link.
func (s sublistener) Close() error   { return nil }
func (s sublistener) Addr() net.Addr { return s.l.ln.Addr() }

// memberAddr makes a member's name its address.
type memberAddr futago.MemberID

func (memberAddr) Network() string  { return "futago" }
func (m memberAddr) String() string { return string(m) }

// httpClient returns a client of the peers' request interface on member m.
func (l *Link) httpClient(m futago.MemberID) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
			defer cancel()
			return l.dial(ctx, m, protoRPC)
		},
		MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}}
}
