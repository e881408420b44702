package generate

import (
	"bytes"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/futago/futago"
)

var epoch = time.Unix(1_700_000_000, 0)

func at(d time.Duration) time.Time { return epoch.Add(d) }

// send enters an occurrence sent to both managers.
func send(j *Journal, number, occurrence uint32, f Flavour, d time.Duration, a, b Outcome) {
	for m, o := range map[futago.MemberID]Outcome{futago.MemberA: a, futago.MemberB: b} {
		j.Add(Copy{
			Number: number, Occurrence: occurrence, Flavour: f, Member: m,
			At: at(d).UnixNano(), Done: at(d).UnixNano(), Outcome: o,
		})
	}
}

// event makes what a manager would have recorded.
func event(id uint64, number uint32, f Flavour, d time.Duration, count, a, b uint64) futago.Event {
	e := futago.Event{ID: id, At: at(d), Count: count, Copies: a + b}
	for m, n := range map[futago.MemberID]uint64{futago.MemberA: a, futago.MemberB: b} {
		if n > 0 {
			e.Receipts = append(e.Receipts, futago.Receipt{Member: m, Count: n, First: at(d), Last: at(d)})
		}
	}
	e.Trap = futago.Trap{Kind: f.Kind(), Parsed: true, Message: "gen: " + Text(9, number)}
	switch f.Kind() {
	case futago.KindSNMPTrap:
		e.Trap.Message = "enterpriseSpecific"
		e.Trap.SNMP = &futago.SNMPFields{Varbinds: []futago.Varbind{{Value: "1"}, {Value: Text(9, number)}}}
	case futago.KindCustomTrap:
		e.Trap.Custom = &futago.CustomFields{Msg: Text(9, number)}
	default:
	}
	return e
}

func all(events ...futago.Event) iter.Seq2[futago.Event, error] {
	return func(yield func(futago.Event, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func window(w time.Duration) map[futago.Kind]futago.DedupRule {
	r := futago.DefaultDedupRule()
	r.Mode, r.Window = futago.ModeWindow, futago.Duration(w)
	return map[futago.Kind]futago.DedupRule{futago.KindSyslog: r}
}

// upAt makes a presence out of times when managers came up and went down.
func upAt(p *Presence, m futago.MemberID, spans ...time.Duration) {
	for i, d := range spans {
		if i%2 == 0 {
			p.Up(m, at(d))
		} else {
			p.Down(m, at(d))
		}
	}
}

const (
	s  = time.Second
	ms = time.Millisecond
)

func TestAudit(t *testing.T) {
	var handover Presence
	upAt(&handover, futago.MemberA, 0, 10*s)
	upAt(&handover, futago.MemberB, 5*s, 1000*s)

	for _, tc := range []struct {
		name   string
		cfg    AuditConfig
		sent   func(j *Journal)
		events []futago.Event
		want   map[FaultKind]int
	}{
		{
			name: "all well",
			sent: func(j *Journal) {
				send(j, 1, 1, SyslogBSD, 0, Sent, Sent)
				send(j, 2, 1, SNMPv3, 0, Sent, Sent)
				send(j, 2, 2, SNMPv3, 0, Sent, Sent)
				send(j, 2, 3, SNMPv3, 50*s, Sent, Unsent)
				send(j, 3, 1, Custom, 0, Acked, Unknown)
			},
			events: []futago.Event{
				event(1, 1, SyslogBSD, 0, 1, 1, 1), event(2, 2, SNMPv3, 0, 2, 2, 2), event(3, 2, SNMPv3, 50*s, 1, 1, 0),
				event(4, 3, Custom, 0, 1, 1, 1),
			},
		},
		{
			name:   "lost",
			sent:   func(j *Journal) { send(j, 1, 1, SyslogBSD, 0, Sent, Sent) },
			events: nil,
			want:   map[FaultKind]int{FaultMissing: 1},
		},
		{
			name: "a true repeat is lost",
			sent: func(j *Journal) {
				send(j, 1, 1, SyslogBSD, 0, Sent, Sent)
				send(j, 1, 2, SyslogBSD, 0, Sent, Sent)
			},
			events: []futago.Event{event(1, 1, SyslogBSD, 0, 1, 1, 1)},
			want:   map[FaultKind]int{FaultMissing: 1},
		},
		{
			name:   "the two managers' copies are not paired",
			sent:   func(j *Journal) { send(j, 1, 1, SyslogBSD, 0, Sent, Sent) },
			events: []futago.Event{event(1, 1, SyslogBSD, 0, 1, 1, 0), event(2, 1, SyslogBSD, 0, 1, 0, 1)},
			want:   map[FaultKind]int{FaultExcess: 1},
		},
		{
			name:   "a spool record is applied twice",
			sent:   func(j *Journal) { send(j, 1, 1, SyslogBSD, 0, Sent, Sent) },
			events: []futago.Event{event(1, 1, SyslogBSD, 0, 2, 2, 1)},
			want:   map[FaultKind]int{FaultExcess: 1, FaultReceipts: 1},
		},
		{
			name: "an acknowledged copy is missing on its manager",
			sent: func(j *Journal) { send(j, 1, 1, Custom, 0, Acked, Acked) },
			events: []futago.Event{
				event(1, 1, Custom, 0, 1, 1, 0),
			},
			want: map[FaultKind]int{FaultReceipts: 1},
		},
		{
			name:   "refused by all, recorded nevertheless",
			sent:   func(j *Journal) { send(j, 1, 1, Custom, 0, Unsent, Unsent) },
			events: []futago.Event{event(1, 1, Custom, 0, 1, 1, 0)},
			want:   map[FaultKind]int{FaultExcess: 1, FaultReceipts: 1},
		},
		{
			name: "outcome unknown: both are right",
			sent: func(j *Journal) {
				send(j, 1, 1, Custom, 0, Unknown, Unsent)
				send(j, 2, 1, Custom, 0, Unknown, Unknown)
			},
			events: []futago.Event{event(1, 1, Custom, 0, 1, 1, 0)},
		},
		{
			name:   "altered, cut short, not parsed, of another kind, never sent",
			sent:   func(j *Journal) { sendMany(j, 5) },
			events: damaged(),
			want:   map[FaultKind]int{FaultAltered: 3, FaultKindWrong: 1, FaultUnknown: 1},
		},
		{
			name:   "the count does not follow from the receipts",
			sent:   func(j *Journal) { send(j, 1, 1, SyslogBSD, 0, Sent, Sent); send(j, 1, 2, SyslogBSD, 0, Sent, Sent) },
			events: []futago.Event{event(1, 1, SyslogBSD, 0, 2, 1, 1)},
			want:   map[FaultKind]int{FaultCount: 1},
		},
		{
			name: "a fragment of a broken stream is no event, one of a datagram is a fault",
			sent: func(j *Journal) {
				send(j, 1, 1, SyslogBSDStream, 0, Unknown, Sent)
				send(j, 2, 1, SyslogBSD, 0, Sent, Sent)
			},
			events: func() []futago.Event {
				e := []futago.Event{
					event(1, 1, SyslogBSDStream, 0, 1, 0, 1), event(2, 1, SyslogBSDStream, 0, 1, 1, 0), event(3, 2, SyslogBSD, 0, 1, 1, 1),
				}
				e[1].Trap.Message = e[1].Trap.Message[:5+markLen]
				e[2].Trap.Message = e[2].Trap.Message[:5+markLen]
				return e
			}(),
			want: map[FaultKind]int{FaultAltered: 1},
		},
		{
			name: "a handover in the middle of a burst may hide repeats, and may not",
			cfg:  AuditConfig{Presence: &handover},
			sent: func(j *Journal) {
				for n := range uint32(2) {
					send(j, n+1, 1, SyslogBSD, 3*s, Sent, Sent) // a only
					send(j, n+1, 2, SyslogBSD, 7*s, Sent, Sent)
					send(j, n+1, 3, SyslogBSD, 20*s, Sent, Sent) // b only
				}
			},
			events: []futago.Event{event(1, 1, SyslogBSD, 3*s, 2, 2, 2), event(2, 2, SyslogBSD, 3*s, 3, 2, 3)},
		},
		{
			name: "a handover does not excuse more",
			cfg:  AuditConfig{Presence: &handover},
			sent: func(j *Journal) {
				send(j, 1, 1, SyslogBSD, 3*s, Sent, Sent)
				send(j, 1, 2, SyslogBSD, 7*s, Sent, Sent)
				send(j, 1, 3, SyslogBSD, 90*s, Sent, Sent) // beyond the pairing time
			},
			events: []futago.Event{event(1, 1, SyslogBSD, 3*s, 2, 2, 1)},
			want:   map[FaultKind]int{FaultMissing: 1},
		},
		{
			name: "nobody was there",
			cfg:  AuditConfig{Presence: &handover},
			sent: func(j *Journal) { send(j, 1, 1, SyslogBSD, 2000*s, Unsent, Unknown) },
		},
		{
			name: "window: one event each window",
			cfg:  AuditConfig{Rules: window(30 * s)},
			sent: func(j *Journal) {
				for i := range uint32(7) {
					send(j, 1, i+1, SyslogBSD, time.Duration(i)*10*s, Sent, Sent)
				}
			},
			events: []futago.Event{
				event(1, 1, SyslogBSD, 0, 1, 3, 3), event(2, 1, SyslogBSD, 30*s, 1, 3, 3), event(3, 1, SyslogBSD, 60*s+ms, 1, 1, 1),
			},
		},
		{
			name: "window: late copies judged first",
			cfg:  AuditConfig{Rules: window(30 * s)},
			sent: func(j *Journal) {
				for i := range uint32(3) {
					send(j, 1, i+1, SyslogBSD, time.Duration(i)*20*s, Sent, Sent)
				}
			},
			events: []futago.Event{event(1, 1, SyslogBSD, 20*s, 1, 3, 3)},
		},
		{
			name: "window: two events in one window, the first uncovered, the last from nowhere",
			cfg:  AuditConfig{Rules: window(30 * s)},
			sent: func(j *Journal) {
				send(j, 1, 1, SyslogBSD, 0, Sent, Sent)
				send(j, 1, 2, SyslogBSD, 100*s, Sent, Sent)
				send(j, 1, 3, SyslogBSD, 110*s, Sent, Sent)
			},
			events: []futago.Event{
				event(1, 1, SyslogBSD, 100*s, 1, 1, 1), event(2, 1, SyslogBSD, 110*s, 1, 1, 1), event(3, 1, SyslogBSD, 200*s, 1, 1, 1),
			},
			want: map[FaultKind]int{FaultSpacing: 1, FaultUncovered: 1, FaultBaseless: 1},
		},
		{
			name: "window: nothing, and a count",
			cfg:  AuditConfig{Rules: window(30 * s)},
			sent: func(j *Journal) {
				send(j, 1, 1, SyslogBSD, 0, Sent, Sent)
				send(j, 2, 1, SyslogBSD, 0, Sent, Sent)
			},
			events: []futago.Event{event(1, 1, SyslogBSD, 0, 2, 1, 1)},
			want:   map[FaultKind]int{FaultMissing: 1, FaultCount: 1},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := &Journal{Run: 9}
			tc.sent(j)
			foreign := event(99, 1, SyslogBSD, 0, 1, 1, 1)
			foreign.Trap.Message = Text(8, 1)
			r, err := Audit(tc.cfg, j, all(append(tc.events, foreign)...))
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(r.Found, tc.want) {
				t.Errorf("found %v, want %v: %v", r.Found, tc.want, r.Err())
			}
			if (r.Err() == nil) != (len(tc.want) == 0) {
				t.Errorf("error is %v", r.Err())
			}
			if r.Foreign != 1 {
				t.Errorf("%d foreign events", r.Foreign)
			}
		})
	}
}

func sendMany(j *Journal, n uint32) {
	for i := range n {
		send(j, i+1, 1, SyslogBSD, 0, Sent, Sent)
	}
}

func damaged() []futago.Event {
	e := make([]futago.Event, 5, 6)
	for i := range e {
		e[i] = event(uint64(i+1), uint32(i+1), SyslogBSD, 0, 1, 1, 1)
	}
	e[0].Trap.Message += "x"
	e[1].Trap.Message = e[1].Trap.Message[:len(e[1].Trap.Message)-1]
	e[2].Trap.Parsed = false
	e[3].Trap.Kind = futago.KindCustomTrap
	return append(e, event(6, 77, SyslogBSD, 0, 1, 1, 1))
}

func TestAuditSourceFails(t *testing.T) {
	boom := errors.New("boom")
	_, err := Audit(AuditConfig{}, new(Journal), func(yield func(futago.Event, error) bool) { yield(futago.Event{}, boom) })
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

func TestEvidence(t *testing.T) {
	j := &Journal{Run: 9}
	send(j, 1, 1, SyslogBSD, 0, Sent, Unsent)
	r, err := Audit(AuditConfig{}, j, all(event(5, 1, SyslogBSD, 0, 3, 3, 0)))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FAULT excess: 1", "sent 22:13:20.000000 to a as syslog-bsd, occurrence 1: sent", "to b as syslog-bsd, occurrence 1: unsent", "event 5 at", "a: 3 from"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestJournalRoundTrip(t *testing.T) {
	j := &Journal{Run: 4711}
	for i, f := range Flavours() {
		j.Add(Copy{Number: uint32(i + 1), Occurrence: 1, Flavour: f, Member: "a", At: 5, Done: 6, Outcome: Outcome(i%4 + 1), Why: "why"})
	}
	var b bytes.Buffer
	if err := j.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJournal(&b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Run != j.Run {
		t.Errorf("run %d", got.Run)
	}
	if diff := cmp.Diff(j.Copies(), got.Copies()); diff != "" {
		t.Error(diff)
	}
	if _, err := ReadJournal(strings.NewReader(`{"run":1}` + "\n" + `{"flavour":"x"}`)); err == nil {
		t.Error("a broken journal is read")
	}
}

func TestPresence(t *testing.T) {
	var p Presence
	upAt(&p, "a", 0, 10*s, 20*s)
	for _, tc := range []struct {
		m        futago.MemberID
		from, to time.Duration
		want     bool
	}{
		{"a", 0, 10 * s, true},
		{"a", -ms, s, false},
		{"a", 9 * s, 11 * s, false},
		{"a", 9 * s, 21 * s, false},
		{"a", 20 * s, 900 * s, true},
		{"b", 1 * s, 2 * s, false},
	} {
		if got := p.Certain(tc.m, at(tc.from), at(tc.to)); got != tc.want {
			t.Errorf("%s from %v to %v: %v", tc.m, tc.from, tc.to, got)
		}
	}
}

func TestAuditCounts(t *testing.T) {
	sent := &BlastResult{Run: 9, Counts: []uint32{0, 1, 20, 3}}
	right := []futago.Event{
		event(1, 1, SyslogBSD, 0, 1, 1, 1), event(2, 2, SyslogBSD, 0, 15, 15, 15), event(3, 2, SyslogBSD, 2*s, 5, 5, 5),
		event(4, 3, SyslogBSD, 0, 3, 3, 3),
	}
	r, err := AuditCounts(sent, all(right...))
	if err != nil || r.Err() != nil || r.Sent != 24 || r.Recorded != 24 || r.Events != 4 {
		t.Errorf("%+v, %v, %v", r, r.Err(), err)
	}
	wrong := slices.Clone(right)
	wrong[1].Count, wrong[3].Count = 14, 4
	r, err = AuditCounts(sent, all(append(wrong, event(9, 4, SyslogBSD, 0, 1, 1, 1))...))
	if err != nil || r.Err() == nil || r.Missing != 1 || r.Excess != 2 || len(r.First) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}
