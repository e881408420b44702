package snmptrap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/gosnmp/gosnmp"
	"pgregory.net/rapid"

	"github.com/futago/futago"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The samples of RFC 3414 appendix A.3.
func TestKeys_RFC3414(t *testing.T) {
	engine := unhex(t, "00 00 00 00 00 00 00 00 00 00 00 02")
	for _, c := range []struct{ proto, master, local string }{
		{"MD5", "9f af 32 83 88 4e 92 83 4e bc 98 47 d8 ed d9 63", "52 6f 5e ed 9f cc e2 6f 89 64 c2 93 07 87 d8 2b"},
		{
			"SHA", "9f b5 cc 03 81 49 7b 37 93 52 89 39 ff 78 8d 5d 79 14 52 11",
			"66 95 fe bc 92 88 e3 62 82 23 5f c7 15 1f 12 84 97 b3 8f 3f",
		},
	} {
		a := authProtocols[c.proto]
		master := passwordKey(a, []byte("maplesyrup"))
		if !bytes.Equal(master, unhex(t, c.master)) {
			t.Errorf("%s master key %x", c.proto, master)
		}
		if local := localize(a, master, engine); !bytes.Equal(local, unhex(t, c.local)) {
			t.Errorf("%s localized key %x", c.proto, local)
		}
	}
}

// A passphrase of any length is repeated to exactly a mebibyte.
func TestPasswordKey_Length(t *testing.T) {
	for _, n := range []int{1, 8, 63, 4095, 4096, 5000} {
		pass := bytes.Repeat([]byte("abcdefg"), n)[:n]
		a := authProtocols["SHA-256"]
		h := a.hash()
		h.Write(bytes.Repeat(pass, passwordLength/n+1)[:passwordLength])
		if want := h.Sum(nil); !bytes.Equal(passwordKey(a, pass), want) {
			t.Errorf("passphrase of %d bytes: wrong key", n)
		}
	}
}

func TestKey_WhatCounts(t *testing.T) {
	d := New(Options{})
	settings := &futago.IntakeSettings{SNMPUsers: testUsers}
	key := func(raw []byte) futago.Key {
		_, k := d.Decode(received(raw), settings)
		return k
	}
	text := func(s string) gosnmp.SnmpPDU {
		return gosnmp.SnmpPDU{Name: "1.3.6.1.2.1.1.5.0", Type: gosnmp.OctetString, Value: s}
	}
	const oid = "1.3.6.1.6.3.1.1.5.3"
	base := key(v2Packet(t, gosnmp.SNMPv2Trap, 1, 10, oid, text("a")))
	for name, same := range map[string][]byte{
		"request id": v2Packet(t, gosnmp.SNMPv2Trap, 2, 10, oid, text("a")),
		"uptime":     v2Packet(t, gosnmp.SNMPv2Trap, 1, 70000, oid, text("a")),
		"inform":     v2Packet(t, gosnmp.InformRequest, 1, 10, oid, text("a")),
	} {
		if key(same) != base {
			t.Errorf("%s changes the key", name)
		}
	}
	for name, other := range map[string][]byte{
		"name":      v2Packet(t, gosnmp.SNMPv2Trap, 1, 10, "1.3.6.1.6.3.1.1.5.4", text("a")),
		"value":     v2Packet(t, gosnmp.SNMPv2Trap, 1, 10, oid, text("b")),
		"one more":  v2Packet(t, gosnmp.SNMPv2Trap, 1, 10, oid, text("a"), text("a")),
		"community": bytes.Replace(v2Packet(t, gosnmp.SNMPv2Trap, 1, 10, oid, text("a")), []byte("public"), []byte("secret"), 1),
	} {
		if key(other) == base {
			t.Errorf("%s does not change the key", name)
		}
	}

	v1 := func(generic, specific, uptime int64) futago.Key {
		return key(v1Packet([]byte{0x2b, 6, 1, 4, 1, 9}, generic, specific, uptime, nil))
	}
	if v1(6, 1, 5) != v1(6, 1, 6) {
		t.Error("version 1: uptime changes the key")
	}
	if v1(6, 1, 5) == v1(6, 2, 5) || v1(6, 1, 5) == v1(5, 1, 5) {
		t.Error("version 1: generic or specific trap does not change the key")
	}

	// Each of these has its own request id, message id and salt.
	u := testUsers[9]
	v3 := key(v3Packet(t, u, gosnmp.SNMPv2Trap, peerEngine, text("a")))
	if key(v3Packet(t, u, gosnmp.SNMPv2Trap, peerEngine, text("a"))) != v3 {
		t.Error("version 3: two messages of one trap have different keys")
	}
	if key(v3Packet(t, u, gosnmp.SNMPv2Trap, peerEngine, text("b"))) == v3 {
		t.Error("version 3: the value does not change the key")
	}
	if key(v3Packet(t, testUsers[10], gosnmp.SNMPv2Trap, peerEngine, text("a"))) == v3 {
		t.Error("version 3: the user does not change the key")
	}
	inform := func(engine string) futago.Key { return key(informV3(t, u, []byte{0, 0, 0, 1}, []byte(engine), 1, 1)) }
	if inform(peerEngine) != inform("\x80\x00\x1f\x88\x04other") {
		t.Error("version 3: an inform's key depends on the receiver's engine")
	}

	// A message that fails its digest never meets the real one.
	plain := v3Packet(t, testUsers[2], gosnmp.SNMPv2Trap, peerEngine, text("a"))
	forged := bytes.Clone(plain)
	var m message
	if err := parseMessage(forged, &m); err != nil {
		t.Fatal(err)
	}
	m.auth[0] ^= 1
	if key(forged) == key(plain) {
		t.Error("a forgery has the key of the real trap")
	}
}

func TestDecode_Accepts(t *testing.T) {
	raw := v2Packet(t, gosnmp.SNMPv2Trap, 1, 10, "1.3.6.1.6.3.1.1.5.3")
	for _, c := range []struct {
		communities []string
		problem     string
	}{{nil, ""}, {[]string{"other", "public"}, ""}, {[]string{"other"}, `community "public" is not accepted`}} {
		trap, _ := New(Options{}).Decode(received(raw), &futago.IntakeSettings{Communities: c.communities})
		if trap.Problem != c.problem || !trap.Parsed || trap.SNMP == nil {
			t.Errorf("%v: problem %q, parsed %v", c.communities, trap.Problem, trap.Parsed)
		}
	}
}

// Secrets are opened by the injected function; one that cannot be opened yet is
// tried again, and new settings take effect with the next message.
func TestDecode_Secrets(t *testing.T) {
	var locked, opened int
	ready := false
	d := New(Options{Open: func(s futago.Secret) (string, error) {
		if !ready {
			locked++
			return "", errors.New("no cluster key yet")
		}
		opened++
		return strings.TrimPrefix(s.Reveal(), futago.SealedPrefix), nil
	}})
	u := testUsers[9]
	sealed := u
	sealed.AuthPass, sealed.PrivPass = futago.SealedPrefix+u.AuthPass, futago.SealedPrefix+u.PrivPass
	settings := &futago.IntakeSettings{Revision: 1, SNMPUsers: []futago.SNMPUser{sealed}}
	raw := v3Packet(t, u, gosnmp.SNMPv2Trap, peerEngine)
	if trap, _ := d.Decode(received(raw), settings); !strings.Contains(trap.Problem, "cannot be opened") || trap.Parsed || locked == 0 {
		t.Fatalf("problem %q", trap.Problem)
	}
	ready = true
	for range 3 {
		if trap, _ := d.Decode(received(raw), settings); trap.Problem != "" {
			t.Fatal(trap.Problem)
		}
	}
	later := &futago.IntakeSettings{Revision: 2, SNMPUsers: []futago.SNMPUser{{Name: "new"}, sealed}}
	if trap, _ := d.Decode(received(raw), later); trap.Problem != "" {
		t.Fatal(trap.Problem)
	}
	if opened != 2 {
		t.Errorf("secrets opened %d times, want once each", opened)
	}
	sealed.AuthPass = futago.SealedPrefix + "changed-pass"
	changed := &futago.IntakeSettings{Revision: 3, SNMPUsers: []futago.SNMPUser{sealed}}
	if trap, _ := d.Decode(received(raw), changed); !strings.Contains(trap.Problem, "wrong digest") {
		t.Errorf("problem %q after the passphrase changed", trap.Problem)
	}
}

func TestDecode_Charset(t *testing.T) {
	raw := v2Packet(t, gosnmp.SNMPv2Trap, 1, 10, "1.3.6.1.6.3.1.1.5.3",
		gosnmp.SnmpPDU{Name: "1.3.6.1.2.1.1.5.0", Type: gosnmp.OctetString, Value: "\x92\xe1\x89\xb7"})
	settings := &futago.IntakeSettings{Sources: []futago.SourceRule{
		{Source: netip.MustParsePrefix("192.0.2.0/24"), Charset: "shift_jis"},
	}}
	trap, _ := New(Options{}).Decode(received(raw), settings)
	if trap.Message != "linkDown 1.3.6.1.2.1.1.5.0=低温" || trap.Charset != "shift_jis" {
		t.Errorf("%q in %s", trap.Message, trap.Charset)
	}
}

// Several users of one name are tried in turn.
func TestDecode_SameName(t *testing.T) {
	a, b := testUsers[2], testUsers[2]
	a.AuthPass = "another-pass"
	raw := v3Packet(t, b, gosnmp.SNMPv2Trap, peerEngine)
	trap, _ := New(Options{}).Decode(received(raw), &futago.IntakeSettings{SNMPUsers: []futago.SNMPUser{a, b}})
	if trap.Problem != "" {
		t.Error(trap.Problem)
	}
}

func TestDecode_Concurrent(t *testing.T) {
	d := New(Options{})
	settings := []*futago.IntakeSettings{{SNMPUsers: testUsers}, {Revision: 1, SNMPUsers: testUsers[1:]}}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				u := testUsers[1+(i+j)%(len(testUsers)-1)]
				raw := v3Packet(t, u, gosnmp.SNMPv2Trap, fmt.Sprintf("%s%d", peerEngine, j))
				if trap, _ := d.Decode(received(raw), settings[j%2]); trap.Problem != "" {
					t.Error(trap.Problem)
				}
			}
		})
	}
	wg.Wait()
}

// Invented engine ids do not fill the memory.
func TestUser_EnginesBounded(t *testing.T) {
	u := newUser(testUsers[2], New(Options{}).opts.Open)
	for i := range 3 * maxEngines {
		if _, err := u.keys(fmt.Appendf(nil, "engine-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(u.engines) > maxEngines {
		t.Errorf("%d engines kept", len(u.engines))
	}
}

func TestOID_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		arcs := append([]uint32{rapid.Uint32Range(0, 1).Draw(t, "first"), rapid.Uint32Range(0, 39).Draw(t, "second")},
			rapid.SliceOfN(rapid.Uint32(), 0, 126).Draw(t, "rest")...)
		var want []string
		for _, a := range arcs {
			want = append(want, fmt.Sprint(a))
		}
		got, err := oidString(encodeOID(arcs...))
		if err != nil || got != strings.Join(want, ".") {
			t.Fatalf("got %s, %v, want %v", got, err, arcs)
		}
	})
}

func TestOID_Bad(t *testing.T) {
	for name, b := range map[string][]byte{
		"unfinished":     {0x2b, 0x86},
		"arc too large":  {0x2b, 0x90, 0x80, 0x80, 0x80, 0x00},
		"arc far larger": append(bytes.Repeat([]byte{0xff}, 60000), 0x7f),
		"arc wraps to 1": {0x2b, 0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"too many arcs":  bytes.Repeat([]byte{1}, 128),
	} {
		if s, err := oidString(b); err == nil {
			t.Errorf("%s: read as %.60s", name, s)
		}
	}
	if s, err := oidString([]byte{0x88, 0x37}); err != nil || s != "2.999" {
		t.Errorf("2.999 read as %s, %v", s, err)
	}
}

func TestInteger_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Int64().Draw(t, "v")
		c := newCursor(appendInteger(nil, tagInteger, v))
		if got, err := c.integer(); err != nil || got != v || !c.empty() {
			t.Fatalf("%d read as %d, %v", v, got, err)
		}
	})
}

func TestValue_Lenient(t *testing.T) {
	for _, c := range []struct {
		tag       byte
		b         string
		typ, want string
	}{
		{tagCounter32, "ff ff ff ff", "Counter32", "4294967295"},
		{tagCounter32, "00 ff ff ff ff", "Counter32", "4294967295"},
		{tagCounter64, "00 ff ff ff ff ff ff ff ff", "Counter64", "18446744073709551615"},
		{tagGauge32, "", "Gauge32", "0"},
		{tagTimeTicks, "01 02 03 04 05", "TimeTicks", "0x0102030405"},
		{tagInteger, "", "INTEGER", "0x"},
		{tagInteger, "ff 7f", "INTEGER", "-129"},
		{tagIPAddress, "01 02 03", "IpAddress", "0x010203"},
		{tagOctetString, "", "OCTET STRING", ""},
		{tagOctetString, "61 62 00 00", "OCTET STRING", "ab"},
		{tagOctetString, "00", "OCTET STRING", "0x00"},
		{tagOctetString, "61 00 62", "OCTET STRING", "0x610062"},
		{tagOctetString, "61 1b 62", "OCTET STRING", "0x611b62"},
		{tagOctetString, "e3 81", "OCTET STRING", "0xe381"},
		{tagOID, "2b 86", "OBJECT IDENTIFIER", "0x2b86"},
		{tagOpaque, "9f 78 04 41 ac 00 00", "Opaque Float", "21.5"},
		{tagOpaque, "9f 78 05 41 ac 00 00", "Opaque", "0x9f780541ac0000"},
		{tagOpaque, "9f 7a 02 ff 7f", "Opaque Int64", "-129"},
		{tagOpaque, "9f 7b 01 80", "Opaque UInt64", "128"},
		{0x4f, "01", "0x4f", "0x01"},
	} {
		got, typ, _ := appendValue(nil, c.tag, unhex(t, c.b), "")
		if string(got) != c.want || typ != c.typ {
			t.Errorf("tag 0x%02x %s: %s %q, want %s %q", c.tag, c.b, typ, got, c.typ, c.want)
		}
	}
}

func TestValue_Charset(t *testing.T) {
	const shiftJIS = "92 e1 89 b7 88 d9 8f ed" // 低温異常
	for _, c := range []struct{ b, setting, want, name string }{
		{"e7 9b a3 e8 a6 96", "shift_jis", "監視", "utf-8"},
		{shiftJIS + "82 c5 82 b7", "", "低温異常です", "shift_jis"},
		{shiftJIS, "", "0x92e189b788d98fed", ""}, // as long as a date
		{shiftJIS, "shift_jis", "低温異常", "shift_jis"},
		{shiftJIS + "00", "shift_jis", "低温異常", "shift_jis"},
		{"b4 c6 bb eb 43 50 55", "", "監視CPU", "euc-jp"},
		{"1b 24 42 34 46 3b 6b 1b 28 42", "", "監視", "iso-2022-jp"},
		{"b8 a9 c4 d2 e4 f1", "", "0xb8a9c4d2e4f1", ""}, // a hardware address
		{"4b fc 68 6c 75 6e 67 20 61 75 73", "iso-8859-1", "Kühlung aus", "iso-8859-1"},
		{"4b fc 68 6c 75 6e 67 20 61 75 73", "", "0x4bfc686c756e6720617573", ""},
		{"92 e1 01 b7", "shift_jis", "0x92e101b7", ""},
		{"ff fe fd fa ff", "shift_jis", "0xfffefdfaff", ""},
	} {
		got, _, name := appendValue(nil, tagOctetString, unhex(t, c.b), c.setting)
		if string(got) != c.want || name != c.name {
			t.Errorf("%s (%s): %q %s, want %q %s", c.b, c.setting, got, name, c.want, c.name)
		}
	}
}

// hostile packets are as long as a datagram can be and built to cost much.
func hostile() map[string][]byte {
	const room = 65000
	trap := func(varbinds []byte) []byte {
		return appendV2c(nil, versionV2c, []byte("public"), plainPDU(tagTrapV2, 1, varbinds))
	}
	binding := func(oid []byte, tag byte, value []byte) []byte {
		return appendElement(nil, tagSequence, appendElement(appendElement(nil, tagOID, oid), tag, value))
	}
	return map[string][]byte{
		"many bindings":  trap(bytes.Repeat(binding([]byte{0x2b}, tagNull, nil), room/7)),
		"one long name":  trap(binding(bytes.Repeat([]byte{1}, room), tagNull, nil)),
		"long names":     trap(bytes.Repeat(binding(bytes.Repeat([]byte{0x8f, 0xff, 0xff, 0xff, 0x7f}, 126), tagNull, nil), room/640)),
		"long octets":    trap(binding([]byte{0x2b}, tagOctetString, bytes.Repeat([]byte{0xff}, room))),
		"long integer":   trap(binding([]byte{0x2b}, tagInteger, bytes.Repeat([]byte{0xff}, room))),
		"nested":         bytes.Repeat([]byte{0x30, 0x82, 0xfe, 0x00}, room/4),
		"long length":    append([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, make([]byte, room)...),
		"huge length":    append([]byte{0x30, 0xff}, make([]byte, room)...),
		"indefinite":     append([]byte{0x30, 0x80}, make([]byte, room)...),
		"long community": appendV2c(nil, versionV2c, bytes.Repeat([]byte{0xff}, room), plainPDU(tagTrapV2, 1, nil)),
	}
}

// What a message can cost is in proportion to its length.
func TestDecode_Hostile(t *testing.T) {
	d := New(Options{})
	for name, raw := range hostile() {
		t.Run(name, func(t *testing.T) {
			var trap futago.Trap
			allocs := testing.AllocsPerRun(3, func() { trap, _ = d.Decode(received(raw), &futago.IntakeSettings{}) })
			if allocs > 200 {
				t.Errorf("%.0f allocations", allocs)
			}
			if len(trap.Message) > 5*len(raw) || !utf8.ValidString(trap.Message) {
				t.Errorf("message of %d bytes", len(trap.Message))
			}
			if trap.Problem == "" && name != "long octets" && name != "long names" && name != "long integer" && name != "one long name" && name != "long community" {
				t.Error("no problem found")
			}
		})
	}
}
