package command

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/futago/futago"
)

var update = flag.Bool("update", false, "write the golden files anew; only for entries that are new")

var sameNet = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
	cmpopts.EquateEmpty(),
}

func testID(n byte) ID { return ID{0x10, 0x20, 14: n, 15: n} }

// examples holds one full value of every type of the catalogue.
func examples() map[string]Entry {
	at := time.Date(2026, 11, 22, 3, 4, 5, 678901234, time.UTC)
	meta := Meta{ID: testID(1), At: at, By: "alice"}
	fold := futago.DedupRule{Mode: futago.ModeWindow, Window: futago.Duration(time.Minute), PairWithin: futago.Duration(time.Second), Fold: 0}
	return map[string]Entry{
		"trapbatch": &TrapBatch{
			Member: futago.MemberB, Spool: testID(2), First: 77, Watermark: 1_763_780_645_000_000_000, ProposedAt: 1_763_780_646_000_000_000,
			Bodies: []Body{
				{Key: futago.Key{1, 2, 3}, Kind: futago.KindSyslog, Source: netip.MustParseAddr("192.0.2.7"), Severity: 3, Trap: []byte("encoded")},
				{Key: futago.Key{4}, Kind: futago.KindSNMPTrap, Source: netip.MustParseAddr("2001:db8::1"), Severity: 6},
			},
			Copies: []Copy{{Body: 0, At: 1_763_780_645_500_000_000}, {Body: 1, At: 1_763_780_645_400_000_000}, {Body: 0, At: 1_763_780_645_500_000_001}},
		},
		"putintakesettings": &PutIntakeSettings{Meta: meta, Settings: futago.IntakeSettings{
			Revision: 4,
			Dedup:    map[futago.Kind]futago.DedupRule{futago.KindSyslog: futago.DefaultDedupRule(), futago.KindSNMPTrap: fold},
			Sources: []futago.SourceRule{{
				Source: netip.MustParsePrefix("192.0.2.0/24"), Kinds: []futago.Kind{futago.KindSyslog}, Charset: "shift_jis", Dedup: &fold,
			}},
			Communities:      []string{"public"},
			SNMPUsers:        []futago.SNMPUser{{Name: "op", Auth: "SHA-256", AuthPass: "sealed:abc", Priv: "AES", PrivPass: "sealed:def"}},
			CustomTrapTokens: []string{"00ff"}, TimeZone: "Asia/Tokyo",
		}},
		"putuser": &PutUser{Meta: meta, Create: true, User: futago.User{
			Name: "bob", Role: futago.RoleOperator, PasswordHash: "$argon2id$v=19$m=65536,t=3,p=2$c2FsdA$aGFzaA", CreatedAt: at,
		}},
		"deleteuser": &DeleteUser{Meta: meta, Name: "bob"},
		"puttoken": &PutToken{Meta: meta, Token: futago.Token{
			ID: "t1", Name: "ci", Role: futago.RoleViewer, SecretHash: "abcd", CreatedBy: "alice", CreatedAt: at, ExpiresAt: at.Add(time.Hour),
		}},
		"deletetoken": &DeleteToken{Meta: meta, TokenID: "t1"},
		"report":      &Report{Meta: meta, Member: futago.MemberA, Topic: "spool-overflow", Severity: futago.SeverityWarning, Message: "12 traps were lost"},
	}
}

// TestGolden holds the form of every entry still: what an older version wrote
// must be read for ever, so these files are never written anew for a type that
// has been released.
func TestGolden(t *testing.T) {
	for name, e := range examples() {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".entry", mustEncode(t, e), func(b []byte) any { return mustDecode(t, b) }, e)
		})
	}
	for name, tr := range trapExamples() {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".trap", AppendTrap(nil, &tr), func(b []byte) any {
				got, err := DecodeTrap(b)
				if err != nil {
					t.Fatal(err)
				}
				return got
			}, tr)
		})
	}
}

func golden(t *testing.T, file string, got []byte, decode func([]byte) any, want any) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dump, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(dump) != hex.Dump(got) {
		t.Errorf("the form changed:\n%s", cmp.Diff(string(dump), hex.Dump(got)))
	}
	if diff := cmp.Diff(want, decode(undump(t, string(dump))), sameNet); diff != "" {
		t.Errorf("the old form reads as something else (-want +got):\n%s", diff)
	}
}

// undump is the inverse of hex.Dump.
func undump(t *testing.T, dump string) []byte {
	t.Helper()
	var out []byte
	for line := range strings.Lines(dump) {
		hexPart, _, _ := strings.Cut(line, "|")
		for _, f := range strings.Fields(hexPart)[1:] {
			b, err := hex.DecodeString(f)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b...)
		}
	}
	return out
}

func mustEncode(t testing.TB, e Entry) []byte {
	t.Helper()
	b, err := Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustDecode(t testing.TB, b []byte) Entry {
	t.Helper()
	e, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDecode_Damaged(t *testing.T) {
	for name, e := range examples() {
		good := mustEncode(t, e)
		for bit := range len(good) * 8 {
			b := bytes.Clone(good)
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := Decode(b); futago.CodeOf(err) != futago.CodeCorrupt {
				t.Fatalf("%s with bit %d flipped: %v", name, bit, err)
			}
		}
		for n := range good {
			if _, err := Decode(good[:n]); futago.CodeOf(err) != futago.CodeCorrupt {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
		}
	}
}

func seal(typ, version byte, needs, payload string) []byte {
	b := append([]byte{typ, version, byte(len(needs))}, needs...)
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func TestDecode_Newer(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want []string
	}{
		{"unknown type", seal(200, 1, "3.2.1", "whatever"), []string{"type 200", "version 1", "Futago 3.2.1 or newer"}},
		{"newer version", seal(byte(TypePutUser), 9, "2.0.0", "{}"), []string{"PutUser", "version 9", "Futago 2.0.0 or newer"}},
		{"unknown field", seal(byte(TypeDeleteUser), 1, "0.1.0", `{"name":"x","colour":"red"}`), []string{"DeleteUser", "colour"}},
		{"more after the end", seal(byte(TypeDeleteUser), 1, "0.1.0", `{"name":"x"}{}`), []string{"DeleteUser"}},
		{"no version known", seal(200, 1, "", ""), []string{"a newer version"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(tt.b)
			if futago.CodeOf(err) != futago.CodeIncompatible {
				t.Fatalf("got %v", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not name %q", err, w)
				}
			}
		})
	}
}

func TestEncode_Refuses(t *testing.T) {
	ok := func() *TrapBatch { return examples()["trapbatch"].(*TrapBatch) }
	batch := func(change func(*TrapBatch)) Entry { b := ok(); change(b); return b }
	tests := map[string]Entry{
		"third vote as member": batch(func(b *TrapBatch) { b.Member = futago.MemberW }),
		"no spool":             batch(func(b *TrapBatch) { b.Spool = ID{} }),
		"sequence 0":           batch(func(b *TrapBatch) { b.First = 0 }),
		"sequence overflow":    batch(func(b *TrapBatch) { b.First = 1<<64 - 2 }),
		"body out of range":    batch(func(b *TrapBatch) { b.Copies[0].Body = 2 }),
		"zone":                 batch(func(b *TrapBatch) { b.Bodies[0].Source = netip.MustParseAddr("fe80::1%eth0") }),
		"mapped address":       batch(func(b *TrapBatch) { b.Bodies[0].Source = netip.MustParseAddr("::ffff:192.0.2.1") }),
		"internal kind":        batch(func(b *TrapBatch) { b.Bodies[0].Kind = futago.KindInternal }),
		"severity":             batch(func(b *TrapBatch) { b.Bodies[0].Severity = 8 }),
		"clear secret": &PutIntakeSettings{Settings: futago.IntakeSettings{
			SNMPUsers: []futago.SNMPUser{{Name: "x", AuthPass: "hunter22"}},
		}},
		"year 10000":        &DeleteUser{Meta: Meta{At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"unreadable prefix": &PutIntakeSettings{Settings: futago.IntakeSettings{Dedup: map[futago.Kind]futago.DedupRule{99: {}}}},
	}
	for name, e := range tests {
		t.Run(name, func(t *testing.T) {
			if b, err := Encode(e); futago.CodeOf(err) != futago.CodeInvalid {
				t.Errorf("got %d bytes, %v", len(b), err)
			}
		})
	}
}

func genBatch() *rapid.Generator[*TrapBatch] {
	return rapid.Custom(func(t *rapid.T) *TrapBatch {
		b := &TrapBatch{
			Member: rapid.SampledFrom([]futago.MemberID{futago.MemberA, futago.MemberB}).Draw(t, "member"),
			Spool:  testID(9), First: rapid.Uint64Range(1, 1<<60).Draw(t, "first"),
			Watermark: rapid.Int64().Draw(t, "watermark"), ProposedAt: rapid.Int64().Draw(t, "proposed"),
		}
		for range rapid.IntRange(0, 5).Draw(t, "bodies") {
			src := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
			if rapid.Bool().Draw(t, "v6") {
				src = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr"))).Unmap()
			}
			b.Bodies = append(b.Bodies, Body{
				Key:      futago.Key(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key")),
				Kind:     rapid.SampledFrom([]futago.Kind{1, 2, 3}).Draw(t, "kind"),
				Source:   src,
				Severity: futago.Severity(rapid.IntRange(0, 7).Draw(t, "severity")),
				Trap:     rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "trap"),
			})
		}
		if len(b.Bodies) > 0 {
			for range rapid.IntRange(0, 9).Draw(t, "copies") {
				b.Copies = append(b.Copies, Copy{
					Body: uint32(rapid.IntRange(0, len(b.Bodies)-1).Draw(t, "body")), At: rapid.Int64().Draw(t, "at"),
				})
			}
		}
		return b
	})
}

func TestTrapBatch_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genBatch().Draw(t, "batch")
		b, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Entry(want), got, sameNet); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestJSON_TimeZones(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 9*3600))
	e := mustDecode(t, mustEncode(t, &PutToken{Meta: Meta{At: at}, Token: futago.Token{CreatedAt: at}})).(*PutToken)
	if e.At.Location() != time.UTC || e.Token.CreatedAt.Location() != time.UTC || !e.At.Equal(at) || !e.Token.ExpiresAt.IsZero() {
		t.Errorf("got %v, %v, %v", e.At, e.Token.CreatedAt, e.Token.ExpiresAt)
	}
}

func TestID(t *testing.T) {
	id := ID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8}
	if got := id.String(); got != "12345678-9abc-def0-0102-030405060708" {
		t.Errorf("got %s", got)
	}
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("got %v, %v", got, err)
	}
	for _, s := range []string{"", "12345678-9abc-def0-0102-03040506070", "12345678+9abc-def0-0102-030405060708", "1234567g-9abc-def0-0102-030405060708"} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range examples() {
		b := mustEncode(f, e)
		f.Add(b[:len(b)-trailerSize])
	}
	f.Add([]byte{200, 1, 1, 'x'})
	f.Fuzz(func(t *testing.T, body []byte) {
		// The checksum would keep the fuzzer out of everything behind it.
		b := binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
		e, err := Decode(b)
		if err != nil {
			if c := futago.CodeOf(err); c != futago.CodeCorrupt && c != futago.CodeIncompatible {
				t.Fatalf("code %q: %v", c, err)
			}
			return
		}
		again, err := Encode(e)
		if _, batch := e.(*TrapBatch); !batch && err != nil {
			return // a date or a secret that Encode refuses and no proposer wrote
		}
		if err != nil {
			t.Fatal(err)
		}
		e2, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, e2, sameNet); diff != "" {
			t.Fatal(diff)
		}
	})
}
