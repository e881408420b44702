package thirdvote

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

var (
	errNoPeer   = errors.New("third vote: no way to the peer")
	errNotBound = errors.New("third vote: raft is not running yet")
)

// Voter is one manager's share of the third vote. Its methods are safe for
// concurrent use; Run is called once.
type Voter struct {
	cfg  Config
	raft atomic.Pointer[raft.Raft]

	reads     *shared[register.Record]
	greetings *shared[Greeting]
	wg        sync.WaitGroup // barriers given up

	// fileMu is held while the memory is changed and written, so it is held
	// during a flush; mu never is. fileMu is taken before mu.
	fileMu sync.Mutex

	mu  sync.Mutex
	mem memory
	// changed is closed and replaced at every change that a waiter may wait for.
	changed chan struct{}

	solo, barred uint64 // see rules.Local
	phase        rules.Phase

	rec       register.Record // the newest one believed
	readAt    time.Time       // begin of the last good read
	goodSeq   uint64          // number of the last good read, and its term
	goodTerm  uint64
	badSeq    uint64 // number of the last failed read
	reachable bool
	floor     rules.Mark // the mark when the running read began
	begunAt   time.Time  // when it began
	replaced  bool
	disputed  rules.Mark // the last one the peer named that was not higher

	peer    Greeting // the last answer
	contact contact
	waiting *waiting
	ownTerm uint64 // the leadership in which ownIndex was sent
	// ownIndex is the first entry of ownTerm.
	ownIndex uint64
	// askedPrev is the entry before those of the last request to w in the
	// leadership of askedTerm.
	askedTerm, askedPrev uint64

	lastErr error
	count   Counters
}

// waiting is the request to w that waits for its entries to commit.
type waiting struct {
	term      uint64 // of the leadership
	entryTerm uint64 // of the last entry
	index     uint64 // of the last entry
	since     time.Time
}

func newVoter(cfg Config, mem memory) *Voter {
	v := &Voter{cfg: cfg, mem: mem, changed: make(chan struct{}), reachable: true}
	v.reads = newShared(cfg.ReadTimeout, v.readRegister)
	v.reads.begin, v.reads.end = v.readBegins, v.readEnds
	v.greetings = newShared(cfg.HeartbeatTimeout, v.exchange)
	v.greetings.end = func(_ uint64, g Greeting, err error) {
		if err == nil {
			v.mu.Lock()
			v.peer = g
			v.mu.Unlock()
			v.wake()
		}
	}
	return v
}

// Bind makes the running Raft known. It is called right after raft.NewRaft,
// whose elections begin a heartbeat time-out later; before it, w is silent.
func (v *Voter) Bind(r *raft.Raft) {
	v.raft.Store(r)
	v.wake()
}

// Admitted reports whether this data directory has a say: whether it was ever
// seen among the holders. Who is not admitted must not bootstrap a cluster.
func (v *Voter) Admitted() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mem.Admitted
}

// Close releases what the Voter holds. Run must have returned and Raft must be
// shut down.
func (v *Voter) Close() error {
	v.reads.close()
	v.greetings.close()
	v.wg.Wait()
	return nil
}

// local takes a copy of what the rules have to know. The leadership and the
// term belong together: the term only grows, and was the same before and after.
func (v *Voter) local() rules.Local {
	l := rules.Local{Self: v.cfg.Self, Identity: v.cfg.Identity}
	if r := v.raft.Load(); r != nil {
		for {
			l.Term = r.CurrentTerm()
			l.Leader = r.State() == raft.Leader
			l.Commit = r.CommitIndex()
			if r.CurrentTerm() == l.Term {
				break
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	l.Solo, l.Barred, l.Admitted = v.solo, v.barred, v.mem.Admitted
	return l
}

// store puts back the part of l that belongs to the Voter.
func (v *Voter) store(l rules.Local) {
	v.mu.Lock()
	v.solo, v.barred = l.Solo, l.Barred
	v.mu.Unlock()
	v.wake()
}

// wake lets everybody who waits for a change look again.
func (v *Voter) wake() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.changed)
	v.changed = make(chan struct{})
}

// change returns a channel that is closed at the next change. It must be taken
// before the state is looked at.
func (v *Voter) change() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

func (v *Voter) mark() rules.Mark {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mem.Mark
}

// tell reports an event to the log and to the configured receiver.
func (v *Voter) tell(kind EventKind, reason rules.Reason, err error) {
	v.mu.Lock()
	e := Event{Kind: kind, Record: v.rec, Reason: reason, Err: err}
	if err != nil {
		v.lastErr = err
	}
	v.mu.Unlock()
	if r := v.raft.Load(); r != nil {
		e.Term = r.CurrentTerm()
	}
	args := []any{"event", string(kind), "term", e.Term, "record", e.Record.String()}
	if reason != "" {
		args = append(args, "reason", string(reason))
	}
	switch {
	case err != nil:
		v.cfg.Logger.Warn("third vote", append(args, "error", err)...)
	default:
		v.cfg.Logger.Info("third vote", args...)
	}
	if v.cfg.OnEvent != nil {
		v.cfg.OnEvent(e)
	}
}

// readBegins notes what is known before a read, for the read may show no less.
func (v *Voter) readBegins(uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.floor, v.begunAt = v.mem.Mark, time.Now()
}

// readRegister is the call that v.reads shares: it returns only what is
// believed.
func (v *Voter) readRegister(ctx context.Context) (register.Record, error) {
	v.mu.Lock()
	floor := v.floor
	v.mu.Unlock()
	rec, err := v.cfg.Register.Read(ctx)
	if errors.Is(err, register.ErrMissing) {
		if why, ok := rules.Missing(floor); !ok {
			return rec, v.wentBack(why, rec)
		}
	}
	if err != nil {
		return rec, err
	}
	return rec, v.believe(rec, floor)
}

// readEnds takes note of the result of a read.
func (v *Voter) readEnds(seq uint64, rec register.Record, err error) {
	l := v.local()
	v.mu.Lock()
	was := v.reachable
	v.reachable = err == nil
	v.count.Reads++
	if err == nil {
		v.goodSeq, v.goodTerm, v.readAt = seq, rec.Term, v.begunAt
		l.Solo = v.solo
		v.solo = rules.LearnByReading(v.cfg.switches, l, rec)
	} else {
		v.badSeq = seq
		v.count.ReadErrors++
		v.lastErr = err
	}
	v.mu.Unlock()
	switch {
	case errors.Is(err, context.Canceled):
	case was && err != nil:
		v.tell(EventRegisterLost, rules.ReasonUnreadable, err)
	case !was && err == nil:
		v.tell(EventRegisterBack, "", nil)
	}
	v.wake()
}

func (v *Voter) leads() bool {
	r := v.raft.Load()
	return r != nil && r.State() == raft.Leader
}

func (v *Voter) term() uint64 {
	if r := v.raft.Load(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

// believe judges a record that was read since floor was the highest mark known
// (R7). The mark may have risen meanwhile, by a write of our own or the peer's
// word, so an older record is judged by the mark of that time.
func (v *Voter) believe(rec register.Record, floor rules.Mark) error {
	return v.learn(rec, func(seen rules.Mark) (rules.Mark, error) {
		if seen.Above(rules.MarkOf(rec)) {
			seen = floor
		}
		mark, why, ok := rules.Judge(v.cfg.switches, seen, rec)
		if !ok {
			return mark, v.wentBack(why, rec)
		}
		return mark, nil
	})
}

// errOvertaken is what [rules.ReasonOvertaken] says.
var errOvertaken = errors.New("third vote: the record was written, and overtaken")

// believeWritten judges a record that this node has just written, by what is known
// now (R7).
func (v *Voter) believeWritten(rec register.Record) error {
	return v.learn(rec, func(seen rules.Mark) (rules.Mark, error) {
		mark, why, ok := rules.JudgeWritten(v.cfg.switches, seen, rec)
		switch {
		case ok:
			return mark, nil
		case why == rules.ReasonOvertaken:
			return mark, errOvertaken
		default:
			return mark, v.wentBack(why, rec)
		}
	})
}

// learn takes in what a record shows, if judge believes it with the highest mark
// known: the new mark, and whether this data directory has a say. Both are on
// disk before anybody acts on them.
func (v *Voter) learn(rec register.Record, judge func(seen rules.Mark) (rules.Mark, error)) error {
	if err := rec.Validate(); err != nil {
		return futago.Errorf(futago.CodeCorrupt, "the register holds no valid record").Wrap(err)
	}
	v.fileMu.Lock()
	defer v.fileMu.Unlock()
	v.mu.Lock()
	mem, rec0 := v.mem, v.rec
	v.mu.Unlock()

	mark, err := judge(mem.Mark)
	if err != nil {
		return err
	}
	next := mem
	if mark.Above(next.Mark) {
		next.Mark = mark
	}
	newest := rec.Version >= rec0.Version || v.cfg.switches.R7NoMark
	replaced := false
	if newest {
		replaced = rules.Replaced(v.cfg.Self, v.cfg.Identity, rec)
		switch {
		case rules.Admits(v.cfg.Self, v.cfg.Identity, rec):
			next.Admitted = true
		case replaced:
			next.Admitted = false
		}
	}
	if next != mem {
		if err := next.save(v.cfg.File); err != nil {
			return futago.Errorf(futago.CodeStorageFull, "the third vote's file cannot be written").Wrap(err).
				WithAction("free some room on the file system of %s", v.cfg.File)
		}
	}
	v.mu.Lock()
	v.mem = next
	if newest {
		v.rec, v.replaced = rec, replaced
	}
	v.mu.Unlock()
	switch {
	case next.Admitted && !mem.Admitted:
		v.tell(EventAdmitted, "", nil)
	case !next.Admitted && mem.Admitted:
		v.tell(EventReplaced, rules.ReasonOtherIdentity, nil)
	}
	return nil
}

// wentBack makes the error for a register that shows less than it did (R7).
func (v *Voter) wentBack(why rules.Reason, rec register.Record) error {
	seen := v.mark()
	err := futago.Errorf(futago.CodeCorrupt, "%s: it shows version %d, nonce %s, after version %d, nonce %s",
		why, rec.Version, rec.Nonce, seen.Version, seen.Nonce).
		WithAction("find out which manager went on alone before you tell the cluster to take this record")
	v.mu.Lock()
	first := v.count.WentBack == 0 || v.reachable
	v.count.WentBack++
	v.mu.Unlock()
	if first {
		v.tell(EventWentBack, why, err)
	}
	return err
}

// heardOf takes in the mark that the peer knows (R7). One that is higher is on
// disk on return.
func (v *Voter) heardOf(m rules.Mark) error {
	v.fileMu.Lock()
	defer v.fileMu.Unlock()
	v.mu.Lock()
	mem := v.mem
	v.mu.Unlock()
	if !m.Above(mem.Mark) || v.cfg.switches.R7NoMark {
		v.mu.Lock()
		said := v.disputed == m
		v.disputed = m
		v.mu.Unlock()
		if m.Version == mem.Mark.Version && m != mem.Mark && !said {
			v.tell(EventWentBack, rules.ReasonOtherHistory, futago.Errorf(futago.CodeCorrupt,
				"the managers know two records of version %d of the register", m.Version))
		}
		return nil
	}
	next := mem
	next.Mark = m
	if err := next.save(v.cfg.File); err != nil {
		return futago.Errorf(futago.CodeStorageFull, "the third vote's file cannot be written").Wrap(err)
	}
	v.mu.Lock()
	v.mem = next
	v.mu.Unlock()
	return nil
}

// write sends a prepared change and says what became of it. A record that was
// written is believed, and so on disk as the highest seen, before Done is
// returned; one that others have written upon since is Unknown.
func (v *Voter) write(ctx context.Context, ch rules.Change) (rules.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.WriteTimeout)
	defer cancel()
	next := ch.Next
	next.Nonce = register.NewNonce()
	got, err := v.cfg.Register.CompareAndSet(ctx, ch.Old, next)
	switch {
	case err == nil:
		if err := v.believeWritten(got); err != nil {
			return rules.Unknown, err
		}
		return rules.Done, nil
	case errors.Is(err, register.ErrConflict), errors.Is(err, register.ErrUnavailable), errors.Is(err, register.ErrMissing):
		return rules.Refused, err
	default:
		return rules.Unknown, err
	}
}

// grant applies the result of a change to solo.
func (v *Voter) grant(ch rules.Change, res rules.Result) (bool, rules.Reason) {
	l := v.local()
	v.mu.Lock()
	// What belongs to the Voter may have changed since the copy was taken.
	l.Solo, l.Barred = v.solo, v.barred
	solo, why := rules.GrantSolo(v.cfg.switches, l, ch, res)
	granted := solo == ch.Term && why == rules.ReasonGranted
	v.solo = solo
	v.mu.Unlock()
	v.wake()
	return granted, why
}
