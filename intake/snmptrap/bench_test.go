package snmptrap

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/udp"
)

func benchDecode(b *testing.B, raw []byte) {
	d := New(Options{})
	s := &futago.IntakeSettings{SNMPUsers: testUsers}
	r := received(raw)
	if trap, _ := d.Decode(r, s); trap.Problem != "" {
		b.Fatal(trap.Problem)
	}
	b.ReportAllocs()
	for b.Loop() {
		d.Decode(r, s)
	}
}

var benchVarbinds = []gosnmp.SnmpPDU{
	{Name: "1.3.6.1.2.1.2.2.1.1.3", Type: gosnmp.Integer, Value: 3},
	{Name: "1.3.6.1.2.1.2.2.1.7.3", Type: gosnmp.Integer, Value: 1},
	{Name: "1.3.6.1.2.1.2.2.1.8.3", Type: gosnmp.Integer, Value: 2},
	{Name: "1.3.6.1.2.1.2.2.1.2.3", Type: gosnmp.OctetString, Value: "GigabitEthernet0/1 to the core"},
}

func BenchmarkDecode(b *testing.B) {
	b.Run("v2c", func(b *testing.B) {
		benchDecode(b, v2Packet(b, gosnmp.SNMPv2Trap, 1, 10, "1.3.6.1.6.3.1.1.5.3", benchVarbinds...))
	})
	for _, u := range testUsers {
		b.Run("v3 "+u.Name, func(b *testing.B) {
			benchDecode(b, v3Packet(b, u, gosnmp.SNMPv2Trap, peerEngine, benchVarbinds...))
		})
	}
}

// BenchmarkGosnmp is the same work done by gosnmp, for comparison.
func BenchmarkGosnmp(b *testing.B) {
	u := testUsers[9]
	for _, c := range []struct {
		name string
		raw  []byte
		g    *gosnmp.GoSNMP
	}{
		{"v2c", v2Packet(b, gosnmp.SNMPv2Trap, 1, 10, "1.3.6.1.6.3.1.1.5.3", benchVarbinds...), &gosnmp.GoSNMP{Version: gosnmp.Version2c}},
		{"v3 " + u.Name, v3Packet(b, u, gosnmp.SNMPv2Trap, peerEngine, benchVarbinds...), &gosnmp.GoSNMP{
			Version: gosnmp.Version3, SecurityModel: gosnmp.UserSecurityModel, MsgFlags: gosnmp.AuthPriv,
			SecurityParameters: &gosnmp.UsmSecurityParameters{
				UserName: u.Name, AuthenticationProtocol: gosnmpAuth[u.Auth], AuthenticationPassphrase: u.AuthPass.Reveal(),
				PrivacyProtocol: gosnmpPriv[u.Priv], PrivacyPassphrase: u.PrivPass.Reveal(),
			},
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.g.UnmarshalTrap(append([]byte(nil), c.raw...), true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// discardSpool costs nothing.
type discardSpool struct{ seq uint64 }

func (s *discardSpool) Append(recs []futago.Received) (uint64, error) {
	for i := range recs {
		s.seq++
		recs[i].Seq = s.seq
	}
	return s.seq, nil
}

func (*discardSpool) Idle(time.Time) {}

// BenchmarkReceiver is what the receiving goroutine does with one datagram
// between the kernel and the spool.
func BenchmarkReceiver(b *testing.B) {
	engine := testEngine(b)
	settings := &futago.IntakeSettings{SNMPUsers: testUsers}
	for _, c := range []struct {
		name string
		raw  []byte
	}{
		{"v2c trap", v2Packet(b, gosnmp.SNMPv2Trap, 1, 10, "1.3.6.1.6.3.1.1.5.3", benchVarbinds...)},
		{"v3 trap", v3Packet(b, testUsers[9], gosnmp.SNMPv2Trap, peerEngine, benchVarbinds...)},
		{"v2c inform", v2Packet(b, gosnmp.InformRequest, 1, 10, "1.3.6.1.6.3.1.1.5.3", benchVarbinds...)},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := NewReceiver(Config{
				Producer: &discardSpool{}, Decoder: New(Options{}), Engine: engine, MaxWaiting: 1,
				Settings: func() *futago.IntakeSettings { return settings },
			})
			ds := make([]udp.Datagram, 256)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				// Another sender each time, so that an inform is no retransmission.
				ds[n%256] = udp.Datagram{Data: c.raw, Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 162)}
				if n%256 == 255 {
					if err := r.handle(ds); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
