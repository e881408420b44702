package witness

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// limitListener closes connections beyond a number at once. Letting them wait
// would hand the witness to whoever opens the most; closed, a manager knows
// that it asked in vain.
type limitListener struct {
	net.Listener
	max  int64
	open atomic.Int64
	m    *metrics
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > l.max {
			l.open.Add(-1)
			l.m.refused.Inc()
			if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			continue
		}
		l.m.conns.Inc()
		return &limitConn{Conn: c, release: sync.OnceFunc(func() {
			l.open.Add(-1)
			l.m.conns.Dec()
		})}, nil
	}
}

type limitConn struct {
	net.Conn
	release func()
}

func (c *limitConn) Close() error {
	c.release()
	return c.Conn.Close()
}
