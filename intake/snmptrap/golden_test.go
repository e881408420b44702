package snmptrap

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gosnmp/gosnmp"

	"github.com/futago/futago"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testSource = netip.MustParseAddrPort("192.0.2.7:40000")

func received(raw []byte) *futago.Received {
	return &futago.Received{
		Kind: futago.KindSNMPTrap, Transport: futago.TransportUDP, Source: testSource, Raw: raw,
	}
}

// varbindsOfAllTypes has each type that gosnmp can write.
func varbindsOfAllTypes() []gosnmp.SnmpPDU {
	pdu := func(oid string, typ gosnmp.Asn1BER, v any) gosnmp.SnmpPDU {
		return gosnmp.SnmpPDU{Name: oid, Type: typ, Value: v}
	}
	return []gosnmp.SnmpPDU{
		pdu("1.3.6.1.4.1.32473.1", gosnmp.Integer, -2147483648),
		pdu("1.3.6.1.4.1.32473.2", gosnmp.OctetString, "plain text\twith a tab"),
		pdu("1.3.6.1.4.1.32473.3", gosnmp.OctetString, "監視 ok"),
		pdu("1.3.6.1.4.1.32473.4", gosnmp.OctetString, []byte{0x07, 0xea, 0x0b, 0x16, 0x0a, 0x00, 0x00, 0x00}),
		pdu("1.3.6.1.4.1.32473.5", gosnmp.ObjectIdentifier, ".1.3.6.1.4.1.4294967295.0"),
		pdu("1.3.6.1.4.1.32473.6", gosnmp.IPAddress, "198.51.100.1"),
		pdu("1.3.6.1.4.1.32473.7", gosnmp.Counter32, uint32(4294967295)),
		pdu("1.3.6.1.4.1.32473.8", gosnmp.Gauge32, uint32(3000000000)),
		pdu("1.3.6.1.4.1.32473.9", gosnmp.TimeTicks, uint32(123456)),
		pdu("1.3.6.1.4.1.32473.10", gosnmp.Counter64, uint64(18446744073709551615)),
		pdu("1.3.6.1.4.1.32473.11", gosnmp.OpaqueFloat, float32(21.5)),
		pdu("1.3.6.1.4.1.32473.12", gosnmp.OpaqueDouble, float64(-0.125)),
		pdu("1.3.6.1.4.1.32473.13", gosnmp.Null, nil),
		pdu("1.3.6.1.4.1.32473.14", gosnmp.NoSuchInstance, nil),
		pdu("1.3.6.1.4.1.32473.15", gosnmp.NoSuchObject, nil),
		pdu("1.3.6.1.4.1.32473.16", gosnmp.EndOfMibView, nil),
	}
}

// v2Packet is a version 2c notification made by gosnmp, byte for byte the same
// for the same arguments.
func v2Packet(t testing.TB, typ gosnmp.PDUType, requestID, uptime uint32, trapOID string, vars ...gosnmp.SnmpPDU) []byte {
	t.Helper()
	p := gosnmp.SnmpPacket{
		Version: gosnmp.Version2c, Community: "public", PDUType: typ, RequestID: requestID,
		Variables: append([]gosnmp.SnmpPDU{
			{Name: "1.3.6.1.2.1.1.3.0", Type: gosnmp.TimeTicks, Value: uptime},
			{Name: "1.3.6.1.6.3.1.1.4.1.0", Type: gosnmp.ObjectIdentifier, Value: trapOID},
		}, vars...),
	}
	b, err := p.MarshalMsg()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var gosnmpAuth = map[string]gosnmp.SnmpV3AuthProtocol{
	"": gosnmp.NoAuth, "MD5": gosnmp.MD5, "SHA": gosnmp.SHA, "SHA-224": gosnmp.SHA224,
	"SHA-256": gosnmp.SHA256, "SHA-384": gosnmp.SHA384, "SHA-512": gosnmp.SHA512,
}

var gosnmpPriv = map[string]gosnmp.SnmpV3PrivProtocol{
	"": gosnmp.NoPriv, "DES": gosnmp.DES, "AES": gosnmp.AES, "AES-192": gosnmp.AES192, "AES-256": gosnmp.AES256,
	"AES-192-C": gosnmp.AES192C, "AES-256-C": gosnmp.AES256C,
}

// peerEngine is the engine id of devices in the tests.
const peerEngine = "\x80\x00\x1f\x88\x04peer"

// v3Packet is a version 3 notification made by gosnmp, with another request id,
// salt, engine time and uptime each time.
func v3Packet(t testing.TB, u futago.SNMPUser, typ gosnmp.PDUType, engineID string, vars ...gosnmp.SnmpPDU) []byte {
	t.Helper()
	sp := &gosnmp.UsmSecurityParameters{
		UserName: u.Name, AuthoritativeEngineID: engineID, AuthoritativeEngineBoots: 5, AuthoritativeEngineTime: rand.Uint32N(1000),
		AuthenticationProtocol: gosnmpAuth[u.Auth], AuthenticationPassphrase: u.AuthPass.Reveal(),
		PrivacyProtocol: gosnmpPriv[u.Priv], PrivacyPassphrase: u.PrivPass.Reveal(),
	}
	g := &gosnmp.GoSNMP{Version: gosnmp.Version3, SecurityModel: gosnmp.UserSecurityModel, SecurityParameters: sp}
	flags := gosnmp.NoAuthNoPriv
	switch {
	case u.Priv != "":
		flags = gosnmp.AuthPriv
	case u.Auth != "":
		flags = gosnmp.AuthNoPriv
	}
	g.MsgFlags = flags
	if err := sp.InitSecurityKeys(); err != nil {
		t.Fatal(err)
	}
	var b []byte
	for range 1 + rand.IntN(50) { // each has the next request id and salt
		var err error
		b, err = g.SnmpEncodePacket(typ, append([]gosnmp.SnmpPDU{
			{Name: "1.3.6.1.2.1.1.3.0", Type: gosnmp.TimeTicks, Value: rand.Uint32()},
			{Name: "1.3.6.1.6.3.1.1.4.1.0", Type: gosnmp.ObjectIdentifier, Value: "1.3.6.1.6.3.1.1.5.4"},
		}, vars...), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestDecoder_Golden compares whole decoded traps with files.
func TestDecoder_Golden(t *testing.T) {
	dir := "testdata/golden"
	if *update {
		writePackets(t, dir)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no packets in %s: %v", dir, err)
	}
	settings := &futago.IntakeSettings{SNMPUsers: testUsers}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".bin")
		t.Run(filepath.Base(name), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			trap, key := New(Options{}).Decode(received(raw), settings)
			trap.Raw = nil
			got, err := json.MarshalIndent(struct {
				Key  futago.Key  `json:"key"`
				Trap futago.Trap `json:"trap"`
			}{key, trap}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			if *update {
				if err := os.WriteFile(name+".json", got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// writePackets makes the packets of peers that are not there yet. They stay as
// they are once written: request ids and salts are random.
func writePackets(t *testing.T, dir string) {
	t.Helper()
	packets := map[string][]byte{
		"v2c-all-types": v2Packet(t, gosnmp.SNMPv2Trap, 1, 99, "1.3.6.1.4.1.32473.0.1", varbindsOfAllTypes()...),
		"v2c-inform":    v2Packet(t, gosnmp.InformRequest, 77, 99, "1.3.6.1.6.3.1.1.5.1"),
		"v2c-no-name": appendV2c(nil, versionV2c, []byte("public"), plainPDU(tagTrapV2, 5,
			appendElement(nil, tagSequence, append(appendElement(nil, tagOID, oidSysUpTime), 0x43, 1, 9)))),
		"v2c-get":      appendV2c(nil, versionV2c, []byte("public"), plainPDU(tagGetRequest, 5, nil)),
		"v1-generic-9": v1Packet([]byte{0x2b, 6, 1, 4, 1, 9}, 9, 3, 100, nil),
		"v1-link-up":   v1Packet([]byte{0x2b, 6, 1, 4, 1, 9}, 3, 0, 100, nil),
		"text":         []byte("<13>Oct 11 22:14:15 host app: to the wrong port"),
		"v3-model-4":   []byte("\x30\x17\x02\x01\x03\x30\x0e\x02\x01\x01\x02\x03\x00\xff\xe3\x04\x01\x00\x02\x01\x04\x04\x02xx"),
	}
	for _, u := range testUsers {
		packets["v3-"+u.Name] = v3Packet(t, u, gosnmp.SNMPv2Trap, peerEngine,
			gosnmp.SnmpPDU{Name: "1.3.6.1.2.1.2.2.1.1.3", Type: gosnmp.Integer, Value: 3})
	}
	unknown := testUsers[9]
	unknown.Name = "nobody"
	packets["v3-unknown-user"] = v3Packet(t, unknown, gosnmp.SNMPv2Trap, peerEngine)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range packets {
		file := filepath.Join(dir, name+".bin")
		if _, err := os.Stat(file); err == nil {
			continue
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// v1Packet is a version 1 trap from agent 10.1.2.3.
func v1Packet(enterprise []byte, generic, specific, uptime int64, varbinds []byte) []byte {
	b := appendElement(nil, tagOID, enterprise)
	b = appendElement(b, tagIPAddress, []byte{10, 1, 2, 3})
	b = appendInteger(b, tagInteger, generic)
	b = appendInteger(b, tagInteger, specific)
	b = appendInteger(b, tagTimeTicks, uptime)
	b = appendElement(b, tagSequence, varbinds)
	return appendV2c(nil, versionV1, []byte("public"), appendElement(nil, tagTrapV1, b))
}

// TestDecoder_Gosnmp reads what gosnmp writes, with all of its key extensions.
func TestDecoder_Gosnmp(t *testing.T) {
	d := New(Options{})
	settings := &futago.IntakeSettings{SNMPUsers: testUsers}
	for _, u := range testUsers {
		t.Run(u.Name, func(t *testing.T) {
			raw := v3Packet(t, u, gosnmp.SNMPv2Trap, peerEngine)
			trap, _ := d.Decode(received(raw), settings)
			if trap.Problem != "" || trap.Message != "linkUp" || trap.Severity != futago.SeverityInfo || trap.SNMP.User != u.Name {
				t.Errorf("got %q, problem %q", trap.Message, trap.Problem)
			}
			if !slices.Equal(trap.Raw, raw) {
				t.Error("raw bytes changed")
			}
		})
	}
}
