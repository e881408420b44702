package httpregister

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
)

// errFenced is what a write gets after the request was given up unsent.
var errFenced = errors.New("the request was given up before it was sent")

// watchedConn knows whether an attempt was made to send something. It sits
// above TLS, so that only the bytes of requests count.
type watchedConn struct {
	net.Conn

	mu     sync.Mutex
	sent   uint64 // writes begun
	fenced bool
}

// Write counts before it sends. The lock is not held over the system call: it
// only orders the beginning of a write against unsentSince.
func (c *watchedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if c.fenced {
		c.mu.Unlock()
		return 0, errFenced
	}
	c.sent++
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *watchedConn) begun() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// unsentSince reports whether no write has begun since begun returned mark.
// When it says so, none will: the connection sends nothing any more.
func (c *watchedConn) unsentSince(mark uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent != mark {
		return false
	}
	c.fenced = true
	return true
}

// attempts follows one request over the connections it was tried on.
type attempts struct {
	mu    sync.Mutex
	conns []attempt
}

type attempt struct {
	conn *watchedConn // nil: a connection that nobody watches
	mark uint64
}

// watch returns a context in which a's connections are noted.
func (a *attempts) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		at := attempt{}
		if c, ok := i.Conn.(*watchedConn); ok {
			at = attempt{conn: c, mark: c.begun()}
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.conns = append(a.conns, at)
	}})
}

// unsent reports whether certainly nothing was sent, and nothing will be.
func (a *attempts) unsent() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.conns {
		if at.conn == nil || !at.conn.unsentSince(at.mark) {
			return false
		}
	}
	return true
}

// once reports whether the request went out on one connection at most, so
// that an answer is the answer to the only copy there is.
func (a *attempts) once() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.conns[:max(len(a.conns)-1, 0)] {
		if at.conn == nil || !at.conn.unsentSince(at.mark) {
			return false
		}
	}
	return true
}
