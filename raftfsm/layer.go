package raftfsm

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
)

// raftLayer is raft's view of the link. Server addresses are member names, so
// that the Raft configuration never changes when a host gets another address.
// Each start of Raft needs a layer of its own, for Raft closes it.
//
// Closing it closes the connections too, those that were accepted and those that
// were made: the library leaves both open, and a member may start Raft many times.
type raftLayer struct {
	sublistener
	closed chan struct{}

	mu    sync.Mutex // guards conns
	conns map[*layerConn]struct{}
}

// layerConn is one of a layer's connections.
type layerConn struct {
	net.Conn
	layer *raftLayer
}

// Close implements [net.Conn].
func (c *layerConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.conns, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}

func (l *Link) newRaftLayer() *raftLayer {
	return &raftLayer{sublistener: sublistener{l, l.raft}, closed: make(chan struct{}), conns: map[*layerConn]struct{}{}}
}

// keep makes c one of the layer's, or closes it when the layer is closed.
func (r *raftLayer) keep(c net.Conn) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closed:
		return nil, errors.Join(net.ErrClosed, c.Close())
	default:
	}
	k := &layerConn{c, r}
	r.conns[k] = struct{}{}
	return k, nil
}

// Accept implements [net.Listener].
func (r *raftLayer) Accept() (net.Conn, error) {
	select {
	case c := <-r.ch:
		return r.keep(c)
	case <-r.closed:
		return nil, net.ErrClosed
	case <-r.l.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (r *raftLayer) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closed:
		return nil
	default:
	}
	close(r.closed)
	for c := range r.conns {
		_ = c.Conn.Close() // nothing more is sent on it
	}
	clear(r.conns)
	return nil
}

// Addr implements [net.Listener].
func (r *raftLayer) Addr() net.Addr { return memberAddr(r.l.node.Member) }

// Dial implements [raft.StreamLayer].
func (r *raftLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := r.l.dial(ctx, futago.MemberID(address), protoRaft)
	if err != nil {
		return nil, err
	}
	return r.keep(c)
}
