package syslog

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/futago/futago"
)

// reader takes the messages of one connection.
type reader struct {
	s      *Stream
	source netip.AddrPort
	f      framer
	recs   []futago.Received

	mu       sync.Mutex // guards stopping together with the read deadline
	stopping bool
}

// read runs until the connection ends, the receiver stops or the connection is
// idle for too long. The end that is nobody's fault is no error.
func (r *reader) read(ctx context.Context, c net.Conn) error {
	for {
		if d := r.s.cfg.IdleTimeout; d > 0 {
			r.mu.Lock()
			if !r.stopping {
				_ = c.SetReadDeadline(time.Now().Add(d)) // the read tells
			}
			r.mu.Unlock()
		}
		n, err := c.Read(r.f.space())
		at := time.Now().UnixNano()
		r.f.advance(n)
		end := more
		switch {
		case errors.Is(err, io.EOF):
			end = ended
		case err != nil:
			end = broken
		}
		r.take(ctx, at, end)
		if err != nil {
			return unlessNormal(ctx, err)
		}
	}
}

// unlessNormal returns err unless it is how connections end.
func unlessNormal(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, io.EOF), ctx.Err() != nil: // ended by the sender, or by the receiver's stop
		err = nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errors.New("idle for too long")
	}
	return err
}

// take appends all messages that have come. It waits while the spool refuses,
// and the sender waits with it, as nothing is read meanwhile.
func (r *reader) take(ctx context.Context, at int64, end ending) {
	for drained := false; !drained; {
		var bytes, cuts uint64
		r.recs = r.recs[:0]
		for len(r.recs) < appendBatch {
			m, cut, ok := r.f.next(end)
			if !ok {
				drained = true
				break
			}
			if cut {
				cuts++
			}
			bytes += uint64(len(m))
			r.recs = append(r.recs, futago.Received{
				At: at, Kind: futago.KindSyslog, Transport: r.s.transport, Source: r.source, Raw: m, Truncated: cut,
			})
		}
		if n := len(r.recs); n > 0 {
			lost := r.s.door.append(ctx, r.recs)
			if lost > 0 {
				r.s.lost.Add(uint64(lost))
				r.s.log.Error("messages are lost: the receiver was stopped while the spool refused them",
					"source", r.source.String(), "lost", lost)
			}
			r.s.received.Add(uint64(n - lost))
			r.s.bytes.Add(bytes)
			r.s.truncated.Add(cuts)
			r.s.lastAt.Store(at)
		}
	}
	r.s.discarded.Add(r.f.discarded)
	r.s.faults.Add(r.f.faults)
	r.f.discarded, r.f.faults = 0, 0
}
