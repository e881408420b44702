package syslog

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
)

// Appender is where stream receivers put messages: a producer of the spool.
// Append sets Seq of what it stored and leaves it 0 in what it refused. It must
// not keep recs or their Raw. It is called by one goroutine at a time.
type Appender interface {
	Append(recs []futago.Received) (last uint64, err error)
}

// Trier is an Appender that can also be asked without consequence: TryAppend
// does not count what it refuses as lost, as the caller will come again. Stream
// receivers use it where there is one.
type Trier interface {
	TryAppend(recs []futago.Received) (last uint64, err error)
}

// Producer is where the datagram receiver puts messages: a producer of the
// spool that holds the watermark.
type Producer interface {
	Appender
	// Idle says that everything which arrived before at has been appended.
	Idle(at time.Time)
}

// The waits between attempts to append what was refused.
const (
	retryFirst = 50 * time.Millisecond
	retryMost  = 2 * time.Second
)

// door lets the connections of a stream receiver append through one Appender.
// When it refuses, one connection at a time tries again and the others wait.
type door struct {
	log     *slog.Logger
	to      Appender
	waiting atomic.Int64 // connections
	quiet   quiet

	mu     sync.Mutex
	trying chan struct{} // closed when the one that tries again is done; nil when none does
}

// append stores recs or waits until it can. When ctx ends first it tries for a
// last time and returns how many were not stored.
func (d *door) append(ctx context.Context, recs []futago.Received) (lost int) {
	d.mu.Lock()
	if d.trying == nil {
		var err error
		if recs, err = d.try(recs); len(recs) == 0 {
			d.mu.Unlock()
			return 0
		}
		if d.quiet.allow() {
			d.log.Warn("the spool refuses messages; connections wait", "error", err)
		}
	}
	d.mu.Unlock()
	d.waiting.Add(1)
	defer d.waiting.Add(-1)
	for ctx.Err() == nil && len(recs) > 0 {
		d.mu.Lock()
		if other := d.trying; other != nil {
			d.mu.Unlock()
			select {
			case <-other:
			case <-ctx.Done():
			}
			continue
		}
		done := make(chan struct{})
		d.trying = done
		d.mu.Unlock()
		recs = d.persist(ctx, recs)
		d.mu.Lock()
		d.trying = nil
		d.mu.Unlock()
		close(done)
	}
	if len(recs) == 0 {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.to.Append(recs); err == nil {
		return 0
	}
	return len(refused(recs))
}

// persist tries until everything is stored or ctx ends.
func (d *door) persist(ctx context.Context, recs []futago.Received) []futago.Received {
	wait := time.Duration(0) // there may be room by now
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return recs
		}
		d.mu.Lock()
		recs, _ = d.try(recs)
		d.mu.Unlock()
		if len(recs) == 0 {
			return nil
		}
		wait = min(max(retryFirst, 2*wait), retryMost)
	}
}

// try appends under d.mu and returns what was refused.
func (d *door) try(recs []futago.Received) ([]futago.Received, error) {
	add := d.to.Append
	if t, ok := d.to.(Trier); ok {
		add = t.TryAppend
	}
	if _, err := add(recs); err != nil {
		return refused(recs), err
	}
	return nil, nil
}

// refused moves the records that were not stored to the front of recs.
func refused(recs []futago.Received) []futago.Received {
	n := 0
	for i := range recs {
		if recs[i].Seq == 0 {
			recs[n] = recs[i]
			n++
		}
	}
	return recs[:n]
}
