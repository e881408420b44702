package lab

import (
	"container/heap"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// maxHeld bounds the frames that one delayed link holds.
const maxHeld = 1 << 16

// wire is one direction between two ports of the switch.
//
// Each frame draws the same four random numbers whatever the link's state, so
// the fate of the n-th frame depends on the seed and on n alone. Group frames
// (broadcast, multicast) are treated alike but have numbers of their own and
// are not counted: hosts send them whenever they like, and would disturb both.
type wire struct {
	to io.Writer

	mu     sync.Mutex // guards what is below
	link   Link
	rng    *rand.Rand
	group  *rand.Rand
	count  LinkStats
	held   frameHeap
	seq    uint64
	latest time.Time // when the last frame held in order is due
	pump   *sync.WaitGroup
	wake   chan struct{}
	quit   chan struct{}
}

type heldFrame struct {
	due  time.Time
	seq  uint64
	data []byte
}

func newWire(seed uint64, from, to int, w io.Writer) *wire {
	link := uint64(from)<<32 | uint64(to) //nolint:gosec // small indexes
	return &wire{
		to:    w,
		rng:   rand.New(rand.NewPCG(seed, link)),  //nolint:gosec // choices of a test
		group: rand.New(rand.NewPCG(^seed, link)), //nolint:gosec // choices of a test
		pump:  new(sync.WaitGroup),
		wake:  make(chan struct{}, 1),
		quit:  make(chan struct{}),
	}
}

func (w *wire) set(l Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link = l
}

func (w *wire) snapshot() LinkStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// send takes a frame over; it copies what it keeps.
func (w *wire) send(frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rng, count := w.rng, &w.count
	if frame[0]&1 != 0 {
		rng, count = w.group, new(LinkStats)
	}
	lost, twice, early, jitter := rng.Float64(), rng.Float64(), rng.Float64(), rng.Float64()
	l := &w.link
	switch {
	case l.Cut:
		count.Cut++
		return
	case lost < l.Loss:
		count.Lost++
		return
	}
	copies := 1
	if twice < l.Duplicate {
		count.Duplicated++
		copies = 2
	}
	for range copies {
		switch {
		case l.Delay == 0 && l.Jitter == 0 && len(w.held) == 0:
			w.write(frame, count)
		case early < l.Reorder:
			count.Reordered++
			w.write(frame, count)
		case len(w.held) >= maxHeld:
			count.Overflowed++
		default:
			w.hold(frame, l.Delay+time.Duration(jitter*float64(l.Jitter)))
		}
	}
}

func (w *wire) write(frame []byte, count *LinkStats) {
	count.Passed++
	// A device that is down or full refuses the frame, as a wire would lose it.
	_, _ = w.to.Write(frame)
}

func (w *wire) hold(frame []byte, d time.Duration) {
	due := time.Now().Add(d)
	if due.Before(w.latest) {
		due = w.latest
	}
	w.latest = due
	w.seq++
	if w.seq == 1 {
		w.pump.Go(w.deliver)
	}
	heap.Push(&w.held, heldFrame{due: due, seq: w.seq, data: append([]byte(nil), frame...)})
	if w.held[0].seq == w.seq {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// deliver writes held frames when they are due. It runs from the first held
// frame until close.
func (w *wire) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.mu.Lock()
		now := time.Now()
		for len(w.held) > 0 && !w.held[0].due.After(now) {
			f, _ := heap.Pop(&w.held).(heldFrame)
			count := &w.count
			if f.data[0]&1 != 0 {
				count = new(LinkStats)
			}
			if w.link.Cut { // it was on the cable when that was pulled
				count.Cut++
				continue
			}
			w.write(f.data, count)
		}
		wait := time.Hour
		if len(w.held) > 0 {
			wait = w.held[0].due.Sub(now)
		}
		w.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		case <-w.quit:
			return
		}
	}
}

func (w *wire) close() {
	close(w.quit)
	w.pump.Wait()
}

// frameHeap orders by due time, then by arrival.
type frameHeap []heldFrame

func (h frameHeap) Len() int { return len(h) }

func (h frameHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].seq < h[j].seq
}

func (h frameHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *frameHeap) Push(x any) {
	f, _ := x.(heldFrame)
	*h = append(*h, f)
}

func (h *frameHeap) Pop() any {
	old := *h
	f := old[len(old)-1]
	old[len(old)-1] = heldFrame{}
	*h = old[:len(old)-1]
	return f
}
