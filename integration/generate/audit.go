package generate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/futago/futago"
)

// AuditConfig says by which rules the managers judged.
type AuditConfig struct {
	// Rules are the rules of de-duplication by kind. A missing kind has the
	// product's default.
	Rules map[futago.Kind]futago.DedupRule
	// Presence, when set, tells when the managers were certainly up: a copy that
	// was merely sent then counts as received only if its manager was up from
	// Tolerance before to Tolerance after. Without it, what was sent must have
	// been received by a manager.
	Presence *Presence
	// Tolerance is how much later than sent a datagram may have arrived, and
	// StreamTolerance likewise for everything else, which is stamped when read and
	// not when it arrived. Defaults 1 s and 15 s.
	Tolerance, StreamTolerance time.Duration
	// MaxFaults is how many faults are described; all are counted. Default 100.
	MaxFaults int
}

// FaultKind names what is wrong with the record of a trap.
type FaultKind string

// The faults.
const (
	FaultMissing   FaultKind = "missing"   // fewer occurrences recorded than there were
	FaultExcess    FaultKind = "excess"    // more occurrences recorded than there were
	FaultUnknown   FaultKind = "unknown"   // a number that was never sent
	FaultAltered   FaultKind = "altered"   // the text is not the one that was sent, or was not parsed
	FaultKindWrong FaultKind = "kind"      // recorded as another kind of trap
	FaultReceipts  FaultKind = "receipts"  // a manager counts more copies than it was sent, or fewer than it acknowledged
	FaultCount     FaultKind = "count"     // the event's count does not follow from its receipts
	FaultSpacing   FaultKind = "spacing"   // window mode: two events within one window
	FaultUncovered FaultKind = "uncovered" // window mode: an occurrence without an event in reach
	FaultBaseless  FaultKind = "baseless"  // window mode: an event at a time when nothing was sent
)

// Fault is one finding, with its evidence.
type Fault struct {
	Number uint32
	Kind   FaultKind
	Detail string
	// Evidence lists the copies sent and the events recorded.
	Evidence string
}

// Report is the outcome of an audit.
type Report struct {
	Traps       int // distinct traps sent
	Occurrences int // true occurrences
	Copies      int // copies sent
	Events      int // events of this run
	Recorded    uint64
	// Uncertain counts the occurrences that need not have been recorded: no
	// manager was certainly there to receive them.
	Uncertain int
	// Foreign counts events without the mark of this run. Fragments counts
	// beginnings of stream messages whose connection broke.
	Foreign, Fragments int
	Found              map[FaultKind]int
	Faults             []Fault
}

// Err returns nil when nothing is wrong, else an error with the first faults.
func (r *Report) Err() error {
	if len(r.Found) == 0 {
		return nil
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		return err
	}
	return errors.New(b.String())
}

// Write writes the report for people.
func (r *Report) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d traps, %d occurrences (%d uncertain), %d copies; %d events record %d occurrences; %d foreign, %d fragments\n",
		r.Traps, r.Occurrences, r.Uncertain, r.Copies, r.Events, r.Recorded, r.Foreign, r.Fragments)
	for _, k := range slices.Sorted(maps.Keys(r.Found)) {
		_, e := fmt.Fprintf(w, "FAULT %s: %d\n", k, r.Found[k])
		err = cmp.Or(err, e)
	}
	for _, f := range r.Faults {
		_, e := fmt.Fprintf(w, "trap %d: %s: %s\n%s", f.Number, f.Kind, f.Detail, f.Evidence)
		err = cmp.Or(err, e)
	}
	return err
}

// recorded is what the audit keeps of an event.
type recorded struct {
	id       uint64
	at       time.Time
	count    uint64
	receipts []futago.Receipt
}

type auditor struct {
	cfg    AuditConfig
	report *Report
	sent   map[uint32][]Copy
	events map[uint32][]recorded
}

// Audit judges the events of one run against the journal of what was sent. An
// error is one of the events' source; what is wrong is in the report.
func Audit(cfg AuditConfig, j *Journal, events iter.Seq2[futago.Event, error]) (*Report, error) {
	cfg.Tolerance = cmp.Or(cfg.Tolerance, time.Second)
	cfg.StreamTolerance = cmp.Or(cfg.StreamTolerance, 15*time.Second)
	cfg.MaxFaults = cmp.Or(cfg.MaxFaults, 100)
	a := &auditor{
		cfg: cfg, report: &Report{Found: make(map[FaultKind]int)},
		sent: make(map[uint32][]Copy), events: make(map[uint32][]recorded),
	}
	for _, c := range j.Copies() {
		a.sent[c.Number] = append(a.sent[c.Number], c)
		a.report.Copies++
	}
	a.report.Traps = len(a.sent)
	for e, err := range events {
		if err != nil {
			return nil, fmt.Errorf("read the recorded events: %w", err)
		}
		a.take(j.Run, &e)
	}
	for _, n := range slices.Sorted(maps.Keys(a.sent)) {
		a.judge(n)
	}
	return a.report, nil
}

// take files an event under its number.
func (a *auditor) take(run uint32, e *futago.Event) {
	text := markedText(&e.Trap)
	r, n, ok := FindMark([]byte(text))
	if !ok || r != run {
		a.report.Foreign++
		return
	}
	rec := recorded{id: e.ID, at: e.At, count: e.Count, receipts: e.Receipts}
	copies := a.sent[n]
	if len(copies) == 0 {
		a.report.Events++
		a.events[n] = append(a.events[n], rec)
		a.fault(n, FaultUnknown, fmt.Sprintf("event %d has a number that was never sent", e.ID))
		return
	}
	f := copies[0].Flavour
	if want := Text(run, n); text != want {
		if isFragment(text, want) && !f.Datagram() {
			a.report.Fragments++
			return
		}
		a.fault(n, FaultAltered, fmt.Sprintf("event %d has the text %q, sent was %q", e.ID, text, want))
	} else if !e.Trap.Parsed {
		a.fault(n, FaultAltered, fmt.Sprintf("event %d was not parsed: %s", e.ID, e.Trap.Problem))
	}
	if e.Trap.Kind != f.Kind() {
		a.fault(n, FaultKindWrong, fmt.Sprintf("event %d is a %s", e.ID, e.Trap.Kind))
	}
	a.report.Events++
	a.events[n] = append(a.events[n], rec)
}

// markedText returns the text of a trap from its mark on, wherever it stands.
func markedText(t *futago.Trap) string {
	var found string
	pick := func(s string) {
		if i := strings.Index(s, markPrefix); i >= 0 && found == "" {
			found = strings.TrimRight(s[i:], "\r\n")
		}
	}
	if t.SNMP != nil {
		for _, v := range t.SNMP.Varbinds {
			pick(v.Value)
		}
	}
	if t.Custom != nil {
		pick(t.Custom.Msg)
	}
	pick(t.Message)
	pick(string(t.Raw))
	return found
}

func (a *auditor) fault(n uint32, k FaultKind, detail string) {
	a.report.Found[k]++
	if len(a.report.Faults) >= a.cfg.MaxFaults {
		return
	}
	var b strings.Builder
	stamp := func(ns int64) string { return time.Unix(0, ns).UTC().Format("15:04:05.000000") }
	for _, c := range a.sent[n] {
		fmt.Fprintf(&b, "    sent %s to %s as %s, occurrence %d: %s %s\n", stamp(c.At), c.Member, c.Flavour, c.Occurrence, c.Outcome, c.Why)
	}
	for _, e := range a.events[n] {
		fmt.Fprintf(&b, "    event %d at %s, count %d", e.id, stamp(e.at.UnixNano()), e.count)
		for _, r := range e.receipts {
			fmt.Fprintf(&b, "; %s: %d from %s to %s", r.Member, r.Count, stamp(r.First.UnixNano()), stamp(r.Last.UnixNano()))
		}
		b.WriteByte('\n')
	}
	a.report.Faults = append(a.report.Faults, Fault{Number: n, Kind: k, Detail: detail, Evidence: b.String()})
}

// occurrence is what is known of one true occurrence.
type occurrence struct {
	at, until time.Time // sent to the first and to the last manager
	possible  bool      // some manager may have received it
	certain   []futago.MemberID
}

func (a *auditor) rule(k futago.Kind) futago.DedupRule {
	if r, ok := a.cfg.Rules[k]; ok {
		return r
	}
	return futago.DefaultDedupRule()
}

func (a *auditor) tolerance(f Flavour) time.Duration {
	if f.Datagram() || f == SNMPInform {
		return a.cfg.Tolerance
	}
	return a.cfg.StreamTolerance
}

// certain reports whether a copy was surely received.
func (a *auditor) certain(c Copy) bool {
	switch c.Outcome {
	case Acked:
		return true
	case Sent:
		// It may have waited in a queue between the two times.
		from, to := time.Unix(0, c.At).Add(-a.cfg.Tolerance), time.Unix(0, max(c.At, c.Done)).Add(a.cfg.Tolerance)
		return a.cfg.Presence == nil || a.cfg.Presence.Certain(c.Member, from, to)
	default:
		return false
	}
}

func (a *auditor) judge(n uint32) {
	copies := a.sent[n]
	var occ []occurrence
	for i, c := range copies {
		if i == 0 || c.Occurrence != copies[i-1].Occurrence {
			occ = append(occ, occurrence{at: time.Unix(0, c.At)})
		}
		o := &occ[len(occ)-1]
		if until := time.Unix(0, max(c.At, c.Done)); until.After(o.until) {
			o.until = until
		}
		o.possible = o.possible || c.Outcome != Unsent
		if a.certain(c) {
			o.certain = append(o.certain, c.Member)
		}
	}
	a.report.Occurrences += len(occ)
	for _, o := range occ {
		if len(o.certain) == 0 {
			a.report.Uncertain++
		}
	}
	a.receipts(n, copies)
	rule := a.rule(copies[0].Flavour.Kind())
	if rule.Mode == futago.ModeWindow {
		a.window(n, occ, rule, a.tolerance(copies[0].Flavour))
	} else {
		a.exact(n, occ, rule, a.tolerance(copies[0].Flavour))
	}
}

// receipts checks what each manager says to have received.
func (a *auditor) receipts(n uint32, copies []Copy) {
	type tally struct{ possible, acked, recorded uint64 }
	by := make(map[futago.MemberID]*tally)
	of := func(m futago.MemberID) *tally {
		if by[m] == nil {
			by[m] = new(tally)
		}
		return by[m]
	}
	for _, c := range copies {
		if c.Outcome != Unsent {
			of(c.Member).possible++
		}
		if c.Outcome == Acked {
			of(c.Member).acked++
		}
	}
	for _, e := range a.events[n] {
		for _, r := range e.receipts {
			of(r.Member).recorded += r.Count
		}
	}
	for _, m := range slices.Sorted(maps.Keys(by)) {
		switch t := by[m]; {
		case t.recorded > t.possible:
			a.fault(n, FaultReceipts, fmt.Sprintf("%s recorded %d copies and was sent %d at most", m, t.recorded, t.possible))
		case t.recorded < t.acked:
			a.fault(n, FaultReceipts, fmt.Sprintf("%s recorded %d copies and acknowledged %d", m, t.recorded, t.acked))
		}
	}
}

// exact: the counts of a trap's events add up to its true occurrences. Where
// no single manager was there for all of them, the managers' counts may have
// met in the middle (one saw the first, the other one the last), so then less
// is right too: what the best placed manager received.
func (a *auditor) exact(n uint32, occ []occurrence, rule futago.DedupRule, tol time.Duration) {
	var lo, hi, got uint64
	for i := 0; i < len(occ); {
		j := i + 1
		for j < len(occ) && occ[j].at.Sub(occ[j-1].at) <= rule.PairWithin.D()+tol {
			j++
		}
		by := make(map[futago.MemberID]uint64)
		var anywhere uint64
		for _, o := range occ[i:j] {
			if o.possible {
				hi++
			}
			for _, m := range o.certain {
				by[m]++
			}
			if len(o.certain) > 0 {
				anywhere++
			}
		}
		var best uint64
		for _, c := range by {
			best = max(best, c)
		}
		if a.cfg.Presence == nil {
			best = anywhere
		}
		lo += best
		i = j
	}
	for _, e := range a.events[n] {
		got += e.count
		var most uint64
		for _, r := range e.receipts {
			most = max(most, r.Count)
		}
		if e.count != most {
			a.fault(n, FaultCount, fmt.Sprintf("event %d counts %d, the larger receipt %d", e.id, e.count, most))
		}
	}
	a.report.Recorded += got
	want := fmt.Sprint(hi)
	if lo != hi {
		want = fmt.Sprintf("%d to %d", lo, hi)
	}
	switch {
	case got < lo:
		a.fault(n, FaultMissing, fmt.Sprintf("%d recorded, %s occurred", got, want))
	case got > hi:
		a.fault(n, FaultExcess, fmt.Sprintf("%d recorded, %s occurred", got, want))
	}
}

// window: the events of a trap are at least a window apart, each arose from a
// copy, and each occurrence is within a window of an event. That is all that can
// be asked, and it does not depend on the order in which the copies were judged.
func (a *auditor) window(n uint32, occ []occurrence, rule futago.DedupRule, tol time.Duration) {
	w := rule.Window.D()
	events := slices.SortedFunc(slices.Values(a.events[n]), func(x, y recorded) int { return x.at.Compare(y.at) })
	a.report.Recorded += uint64(len(events))
	for i, e := range events {
		if e.count != 1 {
			a.fault(n, FaultCount, fmt.Sprintf("event %d counts %d in window mode", e.id, e.count))
		}
		if i > 0 && e.at.Sub(events[i-1].at) < w {
			a.fault(n, FaultSpacing, fmt.Sprintf("events %d and %d are %v apart, the window is %v",
				events[i-1].id, e.id, e.at.Sub(events[i-1].at), w))
		}
		if !slices.ContainsFunc(occ, func(o occurrence) bool {
			return o.possible && !e.at.Before(o.at.Add(-time.Millisecond)) && !e.at.After(o.until.Add(tol))
		}) {
			a.fault(n, FaultBaseless, fmt.Sprintf("event %d is at a time when nothing was sent", e.id))
		}
	}
	if len(events) == 0 && slices.ContainsFunc(occ, func(o occurrence) bool { return len(o.certain) > 0 }) {
		a.fault(n, FaultMissing, "nothing recorded")
		return
	}
	for i, o := range occ {
		if len(o.certain) == 0 {
			continue
		}
		// It arrived between o.at and o.until+tol.
		if !slices.ContainsFunc(events, func(e recorded) bool {
			return e.at.Sub(o.until) < w+tol && o.at.Sub(e.at) < w
		}) {
			a.fault(n, FaultUncovered, fmt.Sprintf("occurrence %d has no event within %v", i+1, w))
		}
	}
}
