package generate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// laneKey names a lane: index of the target, and flavour.
type laneKey struct {
	target  int
	flavour Flavour
}

// lane sends one flavour to one manager over connections, beside the plan: a
// manager that hangs holds up nobody else.
type lane struct {
	g       *Generator
	target  *Target
	flavour Flavour
	queue   chan job
}

type job struct {
	copy  Copy
	first time.Duration
}

// put queues a copy, or enters it as unsent when the manager is too far behind.
func (l *lane) put(c Copy, first time.Duration) {
	select {
	case l.queue <- job{c, first}:
	default:
		l.enter(c, Unsent, errors.New("queue of the generator is full"))
	}
}

func (l *lane) enter(c Copy, o Outcome, why error) {
	c.Outcome, c.Done = o, time.Now().UnixNano()
	if why != nil {
		c.Why = why.Error()
	}
	l.g.journal.Add(c)
}

// run sends what is queued until the queue is closed. After the end of ctx the
// rest is unsent.
func (l *lane) run(ctx context.Context) {
	switch l.flavour {
	case Custom:
		l.runCustom(ctx)
	case SNMPInform:
		l.runInform(ctx)
	default:
		l.runStream(ctx)
	}
}

func (j job) item() Item {
	return Item{First: j.first, Number: j.copy.Number, Occurrence: j.copy.Occurrence, Flavour: j.copy.Flavour}
}

// runStream sends syslog over one connection after the other.
func (l *lane) runStream(ctx context.Context) {
	var (
		conn  *watchedConn
		retry time.Time
		enc   = l.g.encoder()
		buf   []byte
	)
	defer func() {
		if conn != nil {
			conn.finish()
		}
	}()
	for j := range l.queue {
		if ctx.Err() != nil {
			l.enter(j.copy, Unsent, ctx.Err())
			continue
		}
		if conn != nil && conn.gone() {
			conn.Close()
			conn = nil
		}
		if conn == nil {
			if time.Now().Before(retry) {
				l.enter(j.copy, Unsent, errors.New("no connection"))
				continue
			}
			c, err := l.dial(ctx)
			if err != nil {
				retry = time.Now().Add(100 * time.Millisecond)
				l.enter(j.copy, Unsent, err)
				continue
			}
			conn = c
		}
		// The time stamp is that of the plan, so that both managers get the same bytes.
		buf = enc.append(buf[:0], j.item(), time.Unix(0, j.copy.At))
		var err error
		_ = conn.SetWriteDeadline(time.Now().Add(l.g.cfg.Timeout))
		if l.flavour == SyslogBSDStream {
			_, err = conn.Write(append(buf, '\n'))
		} else {
			_, err = conn.Write(append(append(strconv.AppendInt(nil, int64(len(buf)), 10), ' '), buf...))
		}
		if err != nil {
			conn.Close()
			conn = nil
			l.enter(j.copy, Unknown, err)
			continue
		}
		l.enter(j.copy, Sent, nil)
	}
}

func (l *lane) dial(ctx context.Context) (*watchedConn, error) {
	ctx, cancel := context.WithTimeout(ctx, min(l.g.cfg.Timeout, 2*time.Second))
	defer cancel()
	addr := l.target.SyslogTCP
	if l.flavour == SyslogIETFTLS {
		addr = l.target.SyslogTLS
	}
	c, err := l.g.cfg.Network.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	if l.flavour == SyslogIETFTLS {
		cfg := l.g.cfg.TLS.Clone()
		if cfg == nil {
			cfg = new(tls.Config)
		}
		if cfg.ServerName == "" {
			cfg.ServerName = addr.Addr().String()
		}
		t := tls.Client(c, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		c = t
	}
	return watch(c), nil
}

// watchedConn notices when the other side closes: syslog has no answers, and a
// write into a closed connection would succeed once.
type watchedConn struct {
	net.Conn
	closed chan struct{}
}

func watch(c net.Conn) *watchedConn {
	w := &watchedConn{Conn: c, closed: make(chan struct{})}
	go func() {
		defer close(w.closed)
		_, _ = io.Copy(io.Discard, c)
	}()
	return w
}

func (w *watchedConn) gone() bool {
	select {
	case <-w.closed:
		return true
	default:
		return false
	}
}

// Close closes at once.
func (w *watchedConn) Close() error {
	err := w.Conn.Close()
	<-w.closed
	return err
}

// finish closes in good order: what was written still gets through.
func (w *watchedConn) finish() {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		select {
		case <-w.closed:
		case <-time.After(2 * time.Second):
		}
	}
	_ = w.Close()
}

// customWorkers is how many custom traps may be on their way to one manager.
const customWorkers = 32

// runCustom posts custom traps.
func (l *lane) runCustom(ctx context.Context) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, min(l.g.cfg.Timeout, 2*time.Second))
			defer cancel()
			return l.g.cfg.Network.DialContext(ctx, network, address)
		},
		TLSClientConfig:     l.g.cfg.TLS,
		MaxIdleConnsPerHost: customWorkers, MaxConnsPerHost: customWorkers,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: l.g.cfg.Timeout}
	var wg sync.WaitGroup
	for range customWorkers {
		wg.Go(func() {
			enc := l.g.encoder()
			for j := range l.queue {
				if ctx.Err() != nil {
					l.enter(j.copy, Unsent, ctx.Err())
					continue
				}
				o, err := l.post(ctx, client, enc.append(nil, j.item(), time.Unix(0, j.copy.At)))
				l.enter(j.copy, o, err)
			}
		})
	}
	wg.Wait()
}

// post sends one custom trap. It is never sent again: a manager that got it
// twice would be right to count two.
func (l *lane) post(ctx context.Context, client *http.Client, body []byte) (Outcome, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.target.CustomURL, bytes.NewReader(body))
	if err != nil {
		return Unsent, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if l.g.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+l.g.cfg.Token)
	}
	resp, err := client.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return Unsent, err
		}
		return Unknown, err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode == http.StatusOK {
		return Acked, nil
	}
	err = fmt.Errorf("status %d: %s", resp.StatusCode, bytes.TrimSpace(answer))
	var p struct {
		Spooled *bool `json:"spooled"`
	}
	switch _ = json.Unmarshal(answer, &p); {
	case resp.StatusCode >= 400 && resp.StatusCode < 500, p.Spooled != nil && !*p.Spooled:
		return Unsent, err
	case p.Spooled != nil:
		return Sent, err // recorded later
	default:
		return Unknown, err
	}
}

// runInform sends informs and waits for their answers. Each is sent once.
func (l *lane) runInform(ctx context.Context) {
	conn, err := l.g.cfg.Network.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		for j := range l.queue {
			l.enter(j.copy, Unsent, err)
		}
		return
	}
	var (
		mu      sync.Mutex
		waiting = make(map[uint32]Copy)
		enc     = l.g.encoder()
		buf     []byte
		done    = make(chan struct{})
	)
	go func() {
		defer close(done)
		in := make([]byte, 65536)
		for {
			n, _, err := conn.ReadFrom(in)
			if err != nil {
				return
			}
			id, ok := responseID(in[:n])
			if !ok {
				continue
			}
			mu.Lock()
			c, ok := waiting[id]
			delete(waiting, id)
			mu.Unlock()
			if ok {
				l.enter(c, Acked, nil)
			}
		}
	}()
	left := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(waiting)
	}
	for j := range l.queue {
		if ctx.Err() != nil {
			l.enter(j.copy, Unsent, ctx.Err())
			continue
		}
		buf = enc.append(buf[:0], j.item(), time.Now())
		mu.Lock()
		waiting[enc.lastID] = j.copy
		mu.Unlock()
		if _, err := conn.WriteTo(buf, net.UDPAddrFromAddrPort(l.target.SNMP)); err != nil {
			mu.Lock()
			delete(waiting, enc.lastID)
			mu.Unlock()
			l.enter(j.copy, Unsent, err)
		}
	}
	for end := time.Now().Add(l.g.cfg.Timeout); left() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
	}
	conn.Close()
	<-done
	for _, c := range waiting {
		l.enter(c, Unknown, errors.New("no answer"))
	}
}
