package machine

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

// device is a plain model of one manager's spool as its forwarder sees it.
type device struct {
	member   futago.MemberID
	spool    int
	received []command.Copy // of the present spool; Body is the message number
	sent     int            // records proposed at least once
	now      int64
}

// generator draws a log as leaders may write it: batches in and out of order,
// repeated, of replaced spools, with bodies left out, and settings entries, some
// of them twice.
type generator struct {
	testLog
	rt      *rapid.T
	devices [2]*device
	rev     uint64
	asked   []command.Proposal
}

func (g *generator) draw(what string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(g.rt, what) }

func (g *generator) step() {
	d := g.devices[g.draw("device", 0, 1)]
	switch g.draw("step", 0, 13) {
	case 0, 1, 2: // receive
		for range g.draw("copies", 1, 8) {
			d.now += int64(g.draw("later", 0, 1500)) * int64(time.Millisecond)
			d.received = append(d.received, command.Copy{Body: uint32(g.draw("message", 0, 5)), At: d.now})
		}
	case 3, 4, 5, 6, 7:
		g.batch(d, d.sent)
	case 8: // from somewhere else: again, or with a gap
		g.batch(d, g.draw("from", 0, len(d.received)))
	case 9: // a new spool; what was not sent is lost
		d.spool++
		d.received, d.sent = nil, 0
	case 10:
		d.now += int64(g.draw("clock", -60, 60)) * int64(time.Second)
	case 11:
		g.rev += uint64(g.draw("right revision", 0, 1))
		p := &command.PutIntakeSettings{Meta: g.meta(d.now), Settings: futago.IntakeSettings{Revision: g.rev, Dedup: map[futago.Kind]futago.DedupRule{
			futago.KindSyslog: {
				Mode:   rapid.SampledFrom([]futago.DedupMode{futago.ModeExact, futago.ModeWindow}).Draw(g.rt, "mode"),
				Window: futago.Duration(5 * time.Second), PairWithin: futago.Duration(10 * time.Second),
				Fold: futago.Duration(g.draw("fold", 0, 3)) * futago.Duration(time.Second),
			},
		}}}
		g.propose(p)
	case 12:
		user := fmt.Sprint("user", g.draw("user", 0, 2))
		role := rapid.SampledFrom([]futago.Role{futago.RoleAdmin, futago.RoleViewer}).Draw(g.rt, "role")
		switch g.draw("account", 0, 4) {
		case 0:
			g.propose(&command.DeleteUser{Meta: g.meta(d.now), Name: user})
		case 1:
			g.propose(&command.PutToken{Meta: g.meta(d.now), Token: futago.Token{ID: user, Role: role}})
		case 2:
			g.propose(&command.DeleteToken{Meta: g.meta(d.now), TokenID: user})
		case 3:
			g.propose(&command.Report{Meta: g.meta(d.now), Member: d.member, Topic: user, Severity: 3})
		default:
			g.propose(&command.PutUser{Meta: g.meta(d.now), Create: g.draw("create", 0, 1) == 1, User: futago.User{Name: user, Role: role}})
		}
	default: // a proposal comes again
		if len(g.asked) > 0 {
			g.add(rapid.SampledFrom(g.asked).Draw(g.rt, "again"))
		}
	}
}

func (g *generator) propose(p command.Proposal) {
	g.asked = append(g.asked, p)
	g.add(p)
}

func (g *generator) batch(d *device, from int) {
	n := g.draw("length", 0, len(d.received)-from)
	spool := d.spool
	if spool > 0 && g.draw("late", 0, 9) == 0 {
		spool--
	}
	b := &command.TrapBatch{
		Member: d.member, Spool: testID(1000*int(d.member[0]) + spool), First: uint64(from + 1),
		ProposedAt: d.now, Watermark: d.now,
	}
	bodies := map[uint32]uint32{}
	for _, c := range d.received[from : from+n] {
		i, ok := bodies[c.Body]
		if !ok {
			i = uint32(len(b.Bodies))
			bodies[c.Body] = i
			body := testBody(int(c.Body))
			if g.draw("leave out", 0, 3) == 0 {
				body.Trap = nil
			}
			b.Bodies = append(b.Bodies, body)
		}
		b.Copies = append(b.Copies, command.Copy{Body: i, At: c.At})
		b.Watermark = c.At
	}
	d.sent = max(d.sent, from+n)
	g.add(b)
}

// plain is how many records of which manager must have been counted, from the
// answers to the batches alone.
func plain(t tester, l []Entry, results []Result) (copies [2]uint64, reports int) {
	t.Helper()
	marks := map[command.ID]uint64{}
	seen := map[command.ID]bool{}
	for i, e := range l {
		c, err := command.Decode(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		switch c := c.(type) {
		case *command.TrapBatch:
			slot, _ := c.Member.Slot()
			now := results[i].Batch.Applied
			was := marks[c.Spool]
			r := results[i].Batch
			if now < was || now > max(was, c.First-1+uint64(len(c.Copies))) ||
				!r.NeedBody && !r.Gap && !r.Stale && now < c.First-1+uint64(len(c.Copies)) ||
				r.Gap != (!r.Stale && c.First > was+1) {
				t.Fatalf("batch of %d from %d after %d: %+v", len(c.Copies), c.First, was, r)
			}
			copies[slot] += now - was
			marks[c.Spool] = now
		case *command.Report:
			if !seen[c.ID] {
				reports++
			}
			seen[c.ID] = true
		}
	}
	return copies, reports
}

// TestMachine_Random applies one log in different ways on three members: one
// with room for everything; one with hardly any, that is restarted all the time;
// one that begins with a copy of another's database, or gets one in between.
func TestMachine_Random(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := &generator{testLog: testLog{t: rt}, rt: rt}
		g.devices = [2]*device{{member: futago.MemberA, now: 1e12}, {member: futago.MemberB, now: 1e12}}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			g.step()
		}
		dir, err := os.MkdirTemp(t.TempDir(), "") //nolint:usetesting // one for each of rapid's checks
		if err != nil {
			rt.Fatal(err)
		}
		var members []*member
		for i, limit := range []int{0, 2, 5} {
			sub := filepath.Join(dir, fmt.Sprint(i))
			if err := os.Mkdir(sub, 0o700); err != nil {
				rt.Fatal(err)
			}
			members = append(members, newMemberIn(rt, sub, limit))
		}
		hashes := [3]map[uint64][32]byte{}
		for i, m := range members {
			hashes[i] = map[uint64][32]byte{}
			for at := 0; at < len(g.entries); {
				n := rapid.IntRange(1, len(g.entries)-at).Draw(rt, "group")
				if rapid.Bool().Draw(rt, "small group") {
					n = min(n, 2)
				}
				m.apply(g.entries[at : at+n]...)
				at += n
				a := m.Applied()
				hashes[i][a.Index] = a.Hash
				switch {
				case i == 1 && rapid.Bool().Draw(rt, "restart"):
					m.restart()
				case i == 2 && rapid.IntRange(0, 5).Draw(rt, "install") == 0:
					// The first member has applied everything: its copy may be
					// newer than what this one has got.
					m.install(members[0], filepath.Join(dir, fmt.Sprint("copy", at)))
				}
				if rapid.IntRange(0, 3).Draw(rt, "repeat") == 0 {
					at = max(0, at-rapid.IntRange(0, 5).Draw(rt, "back"))
				}
			}
		}
		same(rt, members[0], members[1])
		same(rt, members[0], members[2])
		for i := range 2 {
			for index, h := range hashes[1+i] {
				if want, ok := members[0].HashAt(index); ok && h != want && index <= members[0].Applied().Index {
					rt.Fatalf("member %d had another hash at %d", 1+i, index)
				}
			}
		}
		// All entries in one transaction give the answers of a first application.
		fresh := filepath.Join(dir, "fresh")
		if err := os.Mkdir(fresh, 0o700); err != nil {
			rt.Fatal(err)
		}
		whole := newMemberIn(rt, fresh, 3)
		res := whole.apply(g.entries...)
		same(rt, members[0], whole)
		copies, reports := plain(rt, g.entries, res)
		counted, internal := whole.count()
		if counted != copies || internal != reports {
			rt.Fatalf("%v copies and %d reports in the history, want %v and %d", counted, internal, copies, reports)
		}
	})
}

func (m *member) count() (copies [2]uint64, internal int) {
	for _, e := range m.events() {
		if e.Trap.Kind == futago.KindInternal {
			internal++
			continue
		}
		for _, r := range e.Receipts {
			slot, _ := r.Member.Slot()
			copies[slot] += r.Count
		}
	}
	return copies, internal
}

func (m *member) install(from *member, path string) {
	m.t.Helper()
	cp, err := from.s.Backup(m.t.Context(), path)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.Restore(m.t.Context(), path, cp.Sum); err != nil {
		m.t.Fatal(err)
	}
}

// TestMachine_EveryTrapOnce is the promise of the product in small: with exact
// counting and no folding, whatever is lost on the way and comes again, each
// true occurrence is one event, received once by each manager that was there.
func TestMachine_EveryTrapOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMemberIn(rt, t.TempDir(), rapid.SampledFrom([]int{3, 20, 0}).Draw(rt, "limit"))
		l := &testLog{t: rt}
		rule := futago.DefaultDedupRule()
		rule.Fold = 0
		m.apply(l.add(&command.PutIntakeSettings{Meta: l.meta(1), Settings: futago.IntakeSettings{
			Revision: 1, Dedup: map[futago.Kind]futago.DedupRule{futago.KindSyslog: rule},
		}}))
		// Occurrences, each received by a, b or both within milliseconds; a lost one
		// must not have a twin within reach, for then nobody could say which it was.
		type occurrence struct{ message, who int }
		var happened []occurrence
		spool := [2][]command.Copy{}
		for i := range rapid.IntRange(1, 60).Draw(rt, "occurrences") {
			o := occurrence{message: rapid.IntRange(0, 4).Draw(rt, "message"), who: 3}
			at := int64(i) * int64(10*time.Millisecond)
			if rapid.IntRange(0, 4).Draw(rt, "lost by one") == 0 {
				o = occurrence{message: 100 + i, who: rapid.IntRange(1, 2).Draw(rt, "who")}
			}
			happened = append(happened, o)
			for s := range 2 {
				if o.who&(1<<s) != 0 {
					late := int64(rapid.IntRange(0, 9).Draw(rt, "late")) * int64(time.Millisecond)
					spool[s] = append(spool[s], command.Copy{Body: uint32(o.message), At: at + late})
				}
			}
		}
		done := [2]uint64{}
		for done[0] < uint64(len(spool[0])) || done[1] < uint64(len(spool[1])) {
			s := rapid.IntRange(0, 1).Draw(rt, "slot")
			from := int(done[s])
			if rapid.IntRange(0, 5).Draw(rt, "again") == 0 {
				from = rapid.IntRange(0, from).Draw(rt, "from")
			}
			b := &command.TrapBatch{Member: futago.MemberOfSlot(s), Spool: testID(s + 1), First: uint64(from + 1), Watermark: -1}
			for _, c := range spool[s][from:min(from+rapid.IntRange(1, 20).Draw(rt, "n"), len(spool[s]))] {
				b.Bodies = append(b.Bodies, testBody(int(c.Body)))
				b.Copies = append(b.Copies, command.Copy{Body: uint32(len(b.Copies)), At: c.At})
				b.Watermark = c.At - 1
			}
			r := m.apply(l.add(b))[0].Batch
			done[s] = max(done[s], r.Applied)
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				m.restart()
			}
		}
		want, got := map[string]int{}, map[string]int{}
		for _, o := range happened {
			raw := testBody(o.message)
			x, err := command.DecodeTrap(raw.Trap)
			if err != nil {
				rt.Fatal(err)
			}
			want[fmt.Sprint(x.Message, " by ", o.who)]++
		}
		for _, e := range m.events() {
			who := 0
			for _, r := range e.Receipts {
				s, _ := r.Member.Slot()
				if r.Count != 1 {
					rt.Fatalf("event %+v", e)
				}
				who |= 1 << s
			}
			got[fmt.Sprint(e.Trap.Message, " by ", who)]++
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatal(diff, slices.Sorted(maps.Keys(got)))
		}
	})
}
