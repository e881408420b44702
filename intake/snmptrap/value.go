package snmptrap

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/futago/futago/intake/charset"
)

// The names of types in [futago.Varbind]: those of RFC 2578, and for what
// net-snmp puts into Opaque, names of the same form.
const (
	typeInteger     = "INTEGER"
	typeOctetString = "OCTET STRING"
	typeOpaque      = "Opaque"
)

// Opaque values of net-snmp: a context tag with a number, and inside the value.
const (
	opaqueTag       = 0x9f
	opaqueCounter64 = 0x76
	opaqueFloat     = 0x78
	opaqueDouble    = 0x79
	opaqueInt64     = 0x7a
	opaqueUint64    = 0x7b
)

// appendValue writes the text form of a value and returns its type, and its
// character set when it is text outside of ASCII. A value that does not fit its
// type is written in hexadecimal. setting is the character set of the sender,
// "" when none is set.
func appendValue(dst []byte, tag byte, b []byte, setting string) (out []byte, typ, name string) {
	switch tag {
	case tagInteger:
		if v, err := signed(b); err == nil {
			return strconv.AppendInt(dst, v, 10), typeInteger, ""
		}
		return appendHex(dst, b), typeInteger, ""
	case tagOctetString:
		dst, name = appendText(dst, b, setting)
		return dst, typeOctetString, name
	case tagNull:
		return dst, "NULL", ""
	case tagOID:
		if out, err := appendOID(dst, b); err == nil {
			return out, "OBJECT IDENTIFIER", ""
		}
		return appendHex(dst, b), "OBJECT IDENTIFIER", ""
	case tagIPAddress:
		if a, ok := netip.AddrFromSlice(b); ok { // 16 bytes: some agents send IPv6 so
			return a.AppendTo(dst), "IpAddress", ""
		}
		return appendHex(dst, b), "IpAddress", ""
	case tagCounter32:
		return appendUnsigned(dst, b, 4), "Counter32", ""
	case tagGauge32:
		return appendUnsigned(dst, b, 4), "Gauge32", ""
	case tagTimeTicks:
		return appendUnsigned(dst, b, 4), "TimeTicks", ""
	case tagUInteger:
		return appendUnsigned(dst, b, 4), "UInteger32", ""
	case tagCounter64:
		return appendUnsigned(dst, b, 8), "Counter64", ""
	case tagOpaque:
		out, typ = appendOpaque(dst, b)
		return out, typ, ""
	case tagNsap:
		return appendHex(dst, b), "NsapAddress", ""
	case tagBitString:
		return appendHex(dst, b), "BIT STRING", ""
	case tagNoSuchObject:
		return append(dst, "noSuchObject"...), "noSuchObject", ""
	case tagNoSuchInstance:
		return append(dst, "noSuchInstance"...), "noSuchInstance", ""
	case tagEndOfMibView:
		return append(dst, "endOfMibView"...), "endOfMibView", ""
	}
	return appendHex(dst, b), "0x" + hex.EncodeToString([]byte{tag}), ""
}

func appendUnsigned(dst, b []byte, size int) []byte {
	v, err := unsigned(b, size)
	if err != nil {
		return appendHex(dst, b)
	}
	return strconv.AppendUint(dst, v, 10)
}

func appendHex(dst, b []byte) []byte {
	return hex.AppendEncode(append(dst, "0x"...), b)
}

// appendOpaque understands what net-snmp wraps; else it is hexadecimal.
func appendOpaque(dst, b []byte) (out []byte, typ string) {
	if len(b) >= 3 && b[0] == opaqueTag && int(b[2]) == len(b)-3 {
		v := b[3:]
		switch kind := b[1]; {
		case kind == opaqueFloat && len(v) == 4:
			f := math.Float32frombits(binary.BigEndian.Uint32(v))
			return strconv.AppendFloat(dst, float64(f), 'g', -1, 32), "Opaque Float"
		case kind == opaqueDouble && len(v) == 8:
			f := math.Float64frombits(binary.BigEndian.Uint64(v))
			return strconv.AppendFloat(dst, f, 'g', -1, 64), "Opaque Double"
		case kind == opaqueInt64 && len(v) >= 1 && len(v) <= 8:
			n, _ := signed(v) // the length is right
			return strconv.AppendInt(dst, n, 10), "Opaque Int64"
		case (kind == opaqueUint64 || kind == opaqueCounter64) && len(v) <= 9:
			return appendUnsigned(dst, v, 8), "Opaque UInt64"
		}
	}
	return appendHex(dst, b), typeOpaque
}

// appendText writes octets as text when they are printable, else converted from
// the sender's character set, else in hexadecimal. NULs at the end, which C
// programs leave, are cut off text.
func appendText(dst, b []byte, setting string) (out []byte, name string) {
	s := b
	for len(s) > 0 && s[len(s)-1] == 0 {
		s = s[:len(s)-1]
	}
	if len(s) == 0 && len(b) > 0 {
		return appendHex(dst, b), ""
	}
	printable, ascii := isPrintable(s)
	switch {
	case ascii:
		return append(dst, s...), ""
	case printable:
		return append(dst, s...), charset.UTF8
	}
	if text, name := convert(s, setting); name != "" {
		return append(dst, text...), name
	}
	return appendHex(dst, b), ""
}

// convert reads octets that are no printable UTF-8 as text in another character
// set; name is "" when they are rather binary data. Without a setting that is
// the usual case, so then only Japanese is recognised, and nothing that has the
// length of an address or a date: those bytes often happen to be valid text.
func convert(b []byte, setting string) (text, name string) {
	for _, c := range b {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != 0x1b || c == 0x7f {
			return "", ""
		}
	}
	name = charset.Detect(b, setting)
	switch name {
	case charset.ISO2022JP: // announces itself
	case charset.ShiftJIS, charset.EUCJP, charset.Latin1:
		if name == setting {
			break
		}
		switch len(b) {
		case 1, 2, 3, 4, 6, 8, 16:
			return "", ""
		}
		if name == charset.Latin1 {
			return "", ""
		}
	default:
		return "", ""
	}
	text = charset.DecodeAs(b, name)
	if printable, _ := isPrintable([]byte(text)); !printable || strings.ContainsRune(text, utf8.RuneError) {
		return "", ""
	}
	return text, name
}

// isPrintable reports whether b is UTF-8 of characters that can be shown, tabs
// and line ends among them, and whether all of it is ASCII too.
func isPrintable(b []byte) (printable, ascii bool) {
	i := 0
	for i < len(b) && (b[i] >= 0x20 && b[i] < 0x7f || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	if i == len(b) {
		return true, true
	}
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return false, false
		}
		if !unicode.IsPrint(r) && r != '\t' && r != '\n' && r != '\r' && r != '\u3000' {
			return false, false
		}
		i += n
	}
	return true, false
}
