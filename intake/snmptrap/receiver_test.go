package snmptrap

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/udp"
)

// fakeSocket hands over the batches that a test sends, and keeps the answers.
type fakeSocket struct {
	batches chan []udp.Datagram
	handled chan struct{}
	answers chan []byte
}

func (f *fakeSocket) Run(ctx context.Context, handle func([]udp.Datagram) error, _ func(time.Time)) error {
	for {
		select {
		case ds := <-f.batches:
			if err := handle(ds); err != nil {
				return err
			}
			f.handled <- struct{}{}
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *fakeSocket) Reply(d udp.Datagram, b []byte) error {
	if d.Data != nil {
		panic("data of a datagram kept")
	}
	f.answers <- bytes.Clone(b)
	return nil
}

// bench is a receiver in a bubble of synctest, without real sockets.
type bench struct {
	*Receiver
	t        *testing.T
	sock     *fakeSocket
	spool    *memSpool
	engine   *Engine
	settings futago.IntakeSettings
	stop     func()
}

func newBench(t *testing.T, maxWaiting int) *bench {
	b := &bench{
		t: t, spool: newMemSpool(false), engine: testEngine(t),
		sock: &fakeSocket{batches: make(chan []udp.Datagram), handled: make(chan struct{}), answers: make(chan []byte, 100000)},
	}
	b.settings.SNMPUsers = testUsers
	b.Receiver = NewReceiver(Config{
		Socket: b.sock, Producer: b.spool, Commits: b.spool, Decoder: New(Options{}), Engine: b.engine,
		Settings: func() *futago.IntakeSettings { return &b.settings }, MaxWaiting: maxWaiting,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return b
}

// send hands over datagrams as one batch, in memory that is overwritten later.
func (b *bench) send(raws ...[]byte) {
	var ds []udp.Datagram
	for _, raw := range raws {
		ds = append(ds, udp.Datagram{Source: testSource, Data: bytes.Clone(raw)})
	}
	b.sock.batches <- ds
	<-b.sock.handled
	for _, d := range ds {
		clear(d.Data)
	}
	synctest.Wait()
}

func (b *bench) answers() [][]byte {
	synctest.Wait()
	var out [][]byte
	for len(b.sock.answers) > 0 {
		out = append(out, <-b.sock.answers)
	}
	return out
}

// wantStatus compares the counters that change is given.
func (b *bench) wantStatus(change func(*Status)) {
	b.t.Helper()
	var want Status
	change(&want)
	if got := b.Status(); got != want {
		b.t.Errorf("status %+v\nwant   %+v", got, want)
	}
}

func informV2(t *testing.T, id uint32) []byte {
	return v2Packet(t, gosnmp.InformRequest, id, 10, "1.3.6.1.6.3.1.1.5.3")
}

// The answer to an inform of version 2c has its request id and bindings.
func TestReceiver_Answer_V2c(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.stop()
		raw := informV2(t, 77)
		b.send(raw)
		if got := b.answers(); len(got) != 0 {
			t.Fatal("answered before the commitment")
		}
		b.spool.ack(1)
		got := b.answers()
		want := bytes.Clone(raw)
		var m message
		if err := parseMessage(want, &m); err != nil {
			t.Fatal(err)
		}
		m.data[0] = tagResponse
		if len(got) != 1 || !bytes.Equal(got[0], want) {
			t.Errorf("answers %x, want %x", got, want)
		}
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Answered = 1, 1, 1 })
	})
}

func TestReceiver_Retransmissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.stop()
		raw := informV2(t, 1)
		b.send(raw, raw) // in one batch
		b.send(raw)
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Waiting, s.Retransmissions = 1, 1, 1, 2 })
		b.spool.ack(1)
		if n := len(b.answers()); n != 1 {
			t.Errorf("%d answers, want one", n)
		}
		// The answer was lost: it is sent again, at once.
		b.send(raw)
		if n := len(b.answers()); n != 1 {
			t.Errorf("%d answers to a late retransmission, want one", n)
		}
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Answered, s.Retransmissions = 1, 1, 1, 3 })
		// Another request id is another inform.
		b.send(informV2(t, 2))
		// After a minute of silence it is a new one.
		time.Sleep(remember + time.Second)
		b.send(raw)
		b.wantStatus(func(s *Status) {
			s.Recorded, s.Informs, s.Answered, s.Unanswered, s.Waiting, s.Retransmissions = 3, 3, 1, 1, 1, 3
		})
	})
}

// A sender that goes on repeating keeps its inform alive for as long as there
// is no leader.
func TestReceiver_LongWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.stop()
		raw := informV2(t, 1)
		for range 30 {
			b.send(raw)
			time.Sleep(20 * time.Second)
		}
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Waiting, s.Retransmissions = 1, 1, 1, 29 })
		b.spool.ack(1)
		if n := len(b.answers()); n != 1 {
			t.Errorf("%d answers", n)
		}
		time.Sleep(2 * remember)
		b.send(informV2(t, 2))
		b.table.mu.Lock()
		defer b.table.mu.Unlock()
		if len(b.table.byKey) != 1 {
			t.Errorf("%d informs remembered, want one", len(b.table.byKey))
		}
	})
}

// An inform beyond the limit is recorded, not answered, and served when its
// sender repeats it.
func TestReceiver_WaitingLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2) // and one more that the goroutine holds
		defer b.stop()
		for id := range uint32(5) {
			b.send(informV2(t, id))
		}
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Waiting, s.Unanswered = 5, 5, 3, 2 })
		b.spool.ack(5)
		if n := len(b.answers()); n != 3 {
			t.Errorf("%d answers, want 3", n)
		}
		b.send(informV2(t, 3), informV2(t, 4))
		if n := len(b.answers()); n != 2 {
			t.Errorf("%d answers, want 2", n)
		}
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Answered, s.Retransmissions = 5, 5, 5, 2 })
		if b.waitingBytes.Load() != 0 {
			t.Errorf("%d bytes waiting", b.waitingBytes.Load())
		}
	})
}

// What the spool does not take is not taken for recorded.
func TestReceiver_SpoolFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.stop()
		b.spool.room = 1
		trap := v2Packet(t, gosnmp.SNMPv2Trap, 1, 1, "1.3.6.1.6.3.1.1.5.1")
		b.send(informV2(t, 1), informV2(t, 2), trap) // the first is stored
		b.wantStatus(func(s *Status) { s.Refused, s.Recorded, s.Informs, s.Waiting = 2, 1, 1, 1 })
		b.spool.room = 0
		b.spool.ack(100)
		if n := len(b.answers()); n != 1 {
			t.Errorf("%d answers to what was stored", n)
		}
		b.send(informV2(t, 1), informV2(t, 2))
		if n := len(b.answers()); n != 2 {
			t.Errorf("%d answers", n)
		}
		b.wantStatus(func(s *Status) { s.Refused, s.Recorded, s.Informs, s.Answered, s.Retransmissions = 2, 2, 2, 2, 1 })
	})
}

// An inform whose record got lost in the spool is recorded anew.
func TestReceiver_RecordLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.stop()
		b.spool.lost = true
		b.send(informV2(t, 1))
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Unanswered = 1, 1, 1 })
		b.spool.lost = false
		b.send(informV2(t, 1))
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Unanswered, s.Waiting = 2, 2, 1, 1 })
		b.spool.ack(2)
		if n := len(b.answers()); n != 1 {
			t.Errorf("%d answers", n)
		}
	})
}

// A stopping receiver answers what is committed within its grace, and leaves
// the rest to repetition.
func TestReceiver_Stop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		b.send(informV2(t, 1), informV2(t, 2))
		go func() {
			time.Sleep(stopGrace / 2)
			b.spool.ack(1)
		}()
		start := time.Now()
		b.stop()
		if waited := time.Since(start); waited != stopGrace {
			t.Errorf("stopped after %s", waited)
		}
		if n := len(b.answers()); n != 1 {
			t.Errorf("%d answers", n)
		}
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Answered, s.Unanswered = 2, 2, 1, 1 })
	})
}

// reported returns the fault that a report names.
func reported(t *testing.T, b []byte) (f fault, m message) {
	t.Helper()
	if err := parseMessage(b, &m); err != nil {
		t.Fatal(err)
	}
	s, err := parseScoped(m.data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePDU(s.pdu)
	if err != nil || p.tag != tagReport {
		t.Fatalf("%v, tag 0x%02x", err, p.tag)
	}
	for v, err := range bindings(p.varbinds) {
		if err != nil {
			t.Fatal(err)
		}
		return fault(v.oid[len(v.oid)-2]), m
	}
	t.Fatal("report without a binding")
	return 0, m
}

// informV3 is an inform of the user to an engine, at its boots and time.
func informV3(t *testing.T, u futago.SNMPUser, id, engineID []byte, boots, seconds uint32) []byte {
	t.Helper()
	d := New(Options{})
	m := message{engineID: engineID, user: []byte(u.Name)}
	users := d.table(&futago.IntakeSettings{SNMPUsers: []futago.SNMPUser{u}})
	cu := users.byName[u.Name][0]
	o := &opened{user: cu, level: cu.level()}
	if cu.auth != nil {
		k, err := cu.keys(engineID)
		if err != nil {
			t.Fatal(err)
		}
		if o.keys = k; cu.priv != nil {
			if _, err := cu.privKey(k, engineID); err != nil {
				t.Fatal(err)
			}
		}
	}
	e := &Engine{id: engineID, boots: boots, started: time.Now().Add(-time.Duration(seconds) * time.Second)}
	name := appendElement(nil, tagOID, oidSNMPTrapOID)
	name = appendElement(name, tagOID, encodeOID(1, 3, 6, 1, 6, 3, 1, 1, 5, 3))
	return e.seal(&reply{
		msgID: 3, flags: o.level | flagReportable, user: m.user, o: o, contextEngineID: engineID, contextName: []byte("ctx"),
		pdu: plainPDU(tagInform, int64(binary.BigEndian.Uint32(id)), appendElement(nil, tagSequence, name)),
	})
}

// Discovery, synchronisation and acceptance, as RFC 3414 sections 3.2 and 4
// have it.
func TestReceiver_V3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.stop()
		b.spool.ack(100)
		u := testUsers[9]
		id := []byte{0, 0, 0, 9}

		b.send(probePacket())
		f, m := reported(t, b.answers()[0])
		if f != faultUnknownEngine || !bytes.Equal(m.engineID, b.engine.ID()) || m.msgID != 9 || m.boots != int64(b.engine.Boots()) {
			t.Errorf("probe answered with fault %d, %+v", f, m)
		}
		b.wantStatus(func(s *Status) { s.Discoveries, s.Reports = 1, 1 })

		// Out of the window: an authenticated report, and no record.
		time.Sleep(time.Hour)
		for _, c := range []struct{ boots, seconds uint32 }{
			{0, 0},
			{b.engine.Boots() - 1, b.engine.Time()},
			{b.engine.Boots(), b.engine.Time() + timeWindow + 1},
			{b.engine.Boots(), b.engine.Time() - timeWindow - 1},
		} {
			b.send(informV3(t, u, id, b.engine.ID(), c.boots, c.seconds))
			answers := b.answers()
			f, m = reported(t, answers[0])
			if f != faultNotInTimeWindow || m.flags != flagAuth {
				t.Errorf("boots %d, time %d: fault %d, flags %d", c.boots, c.seconds, f, m.flags)
			}
			cu := b.cfg.Decoder.table(&b.settings).byName[u.Name][0]
			k, err := cu.keys(b.engine.ID())
			if err != nil || !cu.verify(k, answers[0], &m) {
				t.Errorf("report is not authentic: %v", err)
			}
		}
		b.wantStatus(func(s *Status) { s.Discoveries, s.Reports, s.OutOfWindow = 1, 5, 4 })

		// In the window: recorded and answered in the same level.
		raw := informV3(t, u, id, b.engine.ID(), b.engine.Boots(), b.engine.Time()+timeWindow)
		b.send(raw)
		answers := b.answers()
		if len(answers) != 1 {
			t.Fatalf("%d answers", len(answers))
		}
		if err := parseMessage(answers[0], &m); err != nil {
			t.Fatal(err)
		}
		o := b.cfg.Decoder.table(&b.settings).open(answers[0], &m)
		p, err := parsePDU(o.pdu)
		if err != nil || o.fault != faultNone || p.tag != tagResponse || p.requestID != 9 || m.flags != flagAuth|flagPriv ||
			string(o.contextName) != "ctx" || !bytes.Equal(o.contextEngineID, b.engine.ID()) {
			t.Errorf("answer: %v %q %+v", err, o.reason, p)
		}
		b.wantStatus(func(s *Status) {
			s.Discoveries, s.Reports, s.OutOfWindow, s.Recorded, s.Informs, s.Answered = 1, 5, 4, 1, 1, 1
		})

		// The same PDU in a new message is a retransmission.
		b.send(informV3(t, u, id, b.engine.ID(), b.engine.Boots(), b.engine.Time()))
		if len(b.answers()) != 1 || b.Status().Retransmissions != 1 || b.Status().Recorded != 1 {
			t.Errorf("status %+v", b.Status())
		}
	})
}

// An inform for another engine, as after the floating address moved, is
// recorded once, though its sender synchronises and sends it again.
func TestReceiver_V3_OtherEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.stop()
		u := testUsers[9]
		id := []byte{0, 0, 0, 9}
		b.send(informV3(t, u, id, EngineID(DefaultEnterprise, []byte("cluster"), "b"), 4, 5))
		if f, m := reported(t, b.answers()[0]); f != faultUnknownEngine || !bytes.Equal(m.engineID, b.engine.ID()) {
			t.Errorf("fault %d", f)
		}
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Unanswered, s.Reports = 1, 1, 1, 1 })
		b.send(informV3(t, u, id, b.engine.ID(), b.engine.Boots(), b.engine.Time()))
		b.spool.ack(1)
		if n := len(b.answers()); n != 1 {
			t.Errorf("%d answers", n)
		}
		b.wantStatus(func(s *Status) { s.Recorded, s.Informs, s.Answered, s.Reports, s.Retransmissions = 1, 1, 1, 1, 1 })
	})
}

// A flood of probes with forged sources gets a bounded number of answers.
func TestReceiver_ReportLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 0)
		defer b.stop()
		for range 3 {
			for range maxReports/100 + 5 {
				batch := make([][]byte, 100)
				for i := range batch {
					batch[i] = probePacket()
				}
				b.send(batch...)
			}
			if n := len(b.answers()); n != maxReports {
				t.Errorf("%d reports in a second", n)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestEngine_Boots(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "engine")
	id := EngineID(DefaultEnterprise, []byte("cluster"), "a")
	open := func(id []byte) uint32 {
		t.Helper()
		e, err := OpenEngine(path, id, log)
		if err != nil {
			t.Fatal(err)
		}
		return e.Boots()
	}
	first := open(id)
	if second := open(id); second != first+1 {
		t.Errorf("boots %d after %d", second, first)
	}
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := open(id); again < first {
		t.Errorf("boots went back from %d to %d", first, again)
	}
	open(EngineID(DefaultEnterprise, []byte("cluster"), "b"))
	if _, err := OpenEngine(path, []byte("abc"), log); futago.CodeOf(err) != futago.CodeInvalid {
		t.Errorf("short engine id: %v", err)
	}
	if _, err := OpenEngine(filepath.Join(path, "x"), id, log); err == nil {
		t.Error("a file that cannot be written gives no error")
	}
}

func TestEngineID_Unique(t *testing.T) {
	seen := make(map[string]bool)
	for _, cluster := range []string{"", "a", "ab"} {
		for _, m := range []futago.MemberID{futago.MemberA, futago.MemberB} {
			id := string(EngineID(DefaultEnterprise, []byte(cluster), m))
			if seen[id] || len(id) > maxEngineID || id[0]&0x80 == 0 {
				t.Errorf("engine id %x", id)
			}
			seen[id] = true
		}
	}
}
