package udp

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/futago/futago"
)

// stepBack is how far a time stamp may lie before an earlier one and still be
// put down to packets overtaking each other between the network card and the
// socket. What goes back further is a clock that was set.
const stepBack = time.Second

// idleEvery is how often a silent socket is looked at, so that its word that
// nothing has arrived does not grow old: what other receivers take in is final
// only up to the oldest such word.
const idleEvery = 200 * time.Millisecond

// drainLimit bounds how long a stopping Run reads what is left in the socket.
const drainLimit = 5 * time.Second

// Run reads until ctx ends or the socket is closed; not twice at once. It hands
// over every batch by handle, and each time it finds the socket empty, about five
// times a second while it stays so, it calls idle with a time before which
// everything that arrived has been handed over. Both run in Run's goroutine. The
// batch and its data belong to Run again when handle returns.
//
// When ctx ends, Run first hands over what had arrived by then, for at most
// five seconds, and then returns nil. An error of handle ends Run at once and
// is returned as it is.
func (c *Conn) Run(ctx context.Context, handle func([]Datagram) error, idle func(at time.Time)) error {
	l := &loop{c: c, b: newBatch(c.cfg.BatchSize, c.cfg.MaxSize), handle: handle, idle: idle}
	defer l.b.free()
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.pc.SetReadDeadline(time.Unix(1, 0)) // fails only after Close, which wakes too
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken
			_ = c.pc.SetReadDeadline(time.Time{})
		}
	}()
	l.done = ctx.Done()

	read := l.read // one closure for all turns
	for {
		_ = c.pc.SetReadDeadline(time.Now().Add(idleEvery)) // fails only after Close
		if ctx.Err() != nil {                               // it may have undone what ends the wait
			return l.drain()
		}
		err := c.raw.Read(read)
		switch {
		case l.err != nil && isTransient(l.err):
			c.log.Warn("receive failed; trying again", "error", l.err)
			l.err = nil
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		case l.err != nil:
			return l.err
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return futago.Errorf(futago.CodeInternal, "receive on udp %s", c.cfg.Address).Wrap(err)
		}
		if ctx.Err() != nil {
			return l.drain()
		}
	}
}

// isTransient tells a shortage of kernel memory from a broken socket.
func isTransient(err error) bool {
	return errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS)
}

type loop struct {
	c      *Conn
	b      *batch
	handle func([]Datagram) error
	idle   func(time.Time)
	done   <-chan struct{}
	floor  int64 // no later datagram may have a time stamp at or below this
	err    error
}

// read is called with a socket that may have something. It returns false to be
// called again when there is more, true to leave the wait.
func (l *loop) read(fd uintptr) bool {
	for {
		select {
		case <-l.done:
			return true
		default:
		}
		// Before the call, not after it: what arrives between a call that
		// finds nothing and a later look at the clock is not handed over yet.
		before := time.Now()
		empty, err := l.once(int(fd))
		if err != nil {
			l.err = err
			return true
		}
		if empty {
			l.floor = max(l.floor, before.UnixNano())
			l.idle(before)
			return false
		}
	}
}

// once reads and hands over one batch.
func (l *loop) once(fd int) (empty bool, err error) {
	ds, err := l.b.receive(fd)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return true, nil
	case errors.Is(err, unix.EINTR):
		return false, nil
	case isTransient(err):
		return false, err
	case err != nil:
		return false, futago.Errorf(futago.CodeInternal, "receive on udp %s", l.c.cfg.Address).Wrap(err)
	}
	var bytes, cut uint64
	for i := range ds {
		d := &ds[i]
		d.At = l.stamp(d.At)
		bytes += uint64(len(d.Data))
		if d.Truncated {
			cut++
		}
	}
	if err := l.handle(ds); err != nil {
		return false, err
	}
	l.c.received.Add(uint64(len(ds)))
	l.c.bytes.Add(bytes)
	l.c.truncated.Add(cut)
	l.c.batches.Add(1)
	l.c.lastAt.Store(l.floor)
	return false, nil
}

// stamp makes the kernel's time stamp keep the promise of idle: a packet gets
// its stamp a little before it is put into the socket's buffer, so that one may
// turn up with a stamp from just before the moment the buffer was seen empty,
// or just before that of a packet which another processor put in first. Such a
// stamp is moved up to that moment.
func (l *loop) stamp(at int64) int64 {
	if at == 0 {
		at = time.Now().UnixNano()
	}
	if at <= l.floor && l.floor-at < int64(stepBack) {
		at = l.floor + 1
	}
	l.floor = at
	return at
}

// drain hands over what had arrived when Run was told to stop.
func (l *loop) drain() error {
	stopped := time.Now()
	var err error
	cerr := l.c.raw.Control(func(fd uintptr) {
		for time.Since(stopped) < drainLimit && l.floor < stopped.UnixNano() {
			before := time.Now()
			var empty bool
			empty, err = l.once(int(fd))
			if err != nil {
				return
			}
			if empty {
				l.idle(before)
				return
			}
		}
	})
	if err == nil && cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = cerr
	}
	return err
}
