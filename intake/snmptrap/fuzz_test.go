package snmptrap

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/udp"
)

func seedPackets(f *testing.F) {
	files, err := filepath.Glob("testdata/golden/*.bin")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, b := range hostile() {
		f.Add(b[:min(len(b), 2000)])
	}
}

func FuzzDecode(f *testing.F) {
	seedPackets(f)
	d := New(Options{})
	settings := &futago.IntakeSettings{SNMPUsers: testUsers, Communities: []string{"public"}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		trap, key := d.Decode(received(raw), settings)
		if !bytes.Equal(raw, before) {
			t.Error("raw bytes changed")
		}
		if trap.Parsed != (trap.SNMP != nil) {
			t.Error("parsed and fields disagree")
		}
		if !trap.Parsed && trap.Problem == "" {
			t.Error("not parsed, without a reason")
		}
		texts := []string{trap.Message, trap.Problem, trap.Host}
		if f := trap.SNMP; f != nil {
			texts = append(texts, f.Community, f.User, f.ContextName, f.TrapOID, f.Enterprise)
			for _, v := range f.Varbinds {
				texts = append(texts, v.OID, v.Type, v.Value)
			}
		}
		for _, s := range texts {
			if !utf8.ValidString(s) {
				t.Errorf("%q is not UTF-8", s)
			}
			if len(s) > 6*len(raw)+500 {
				t.Errorf("text of %d bytes from %d", len(s), len(raw))
			}
		}
		if _, again := d.Decode(received(raw), settings); again != key {
			t.Error("the key changes")
		}
	})
}

// nullSocket takes answers and checks that they are readable.
type nullSocket struct{ t *testing.T }

func (nullSocket) Run(context.Context, func([]udp.Datagram) error, func(time.Time)) error { return nil }

func (s nullSocket) Reply(_ udp.Datagram, b []byte) error {
	var m message
	if err := parseMessage(b, &m); err != nil {
		s.t.Errorf("our own answer is not readable: %v", err)
	}
	return nil
}

func FuzzReceiver(f *testing.F) {
	seedPackets(f)
	e := testEngine(f)
	for _, u := range testUsers {
		f.Add(probePacket())
		f.Add(e.seal(&reply{user: []byte(u.Name), flags: flagReportable, contextEngineID: e.id, pdu: plainPDU(tagInform, 5, nil)}))
	}
	settings := &futago.IntakeSettings{SNMPUsers: testUsers}
	d := New(Options{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := NewReceiver(Config{
			Socket: nullSocket{t}, Producer: newMemSpool(true), Decoder: d, Engine: e, MaxWaiting: 4,
			Settings: func() *futago.IntakeSettings { return settings }, Logger: slog.New(slog.DiscardHandler),
		})
		ds := []udp.Datagram{{Source: testSource, Data: raw}, {Source: testSource, Data: raw}}
		if err := r.handle(ds); err != nil {
			t.Fatal(err)
		}
		s := r.Status()
		if got := s.Recorded + s.Retransmissions + s.Discoveries + s.OutOfWindow; got != 2 {
			t.Errorf("%d datagrams accounted for: %+v", got, s)
		}
	})
}

// probePacket is a discovery probe (RFC 3414 section 4).
func probePacket() []byte {
	e := &Engine{}
	return e.seal(&reply{msgID: 9, flags: flagReportable, pdu: plainPDU(tagGetRequest, 3, nil)})
}
