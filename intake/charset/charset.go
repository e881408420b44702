// Package charset turns message bytes of unknown character set into UTF-8.
//
// UTF-8 is recognised by its form. What has another form is decoded as the
// source's setting says, or else as the likeliest of UTF-8 with damage,
// Shift_JIS, EUC-JP and ISO-8859-1; ISO-2022-JP announces itself by its escape
// sequences. Shift_JIS is that of Windows (code page 932) and ISO-8859-1 has
// the printable characters of Windows-1252 in place of C1 controls, as the
// WHATWG Encoding Standard reads these names, because that is what devices send.
package charset

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
)

// The names of character sets, as settings and traps have them.
const (
	ASCII     = "us-ascii"
	UTF8      = "utf-8"
	ShiftJIS  = "shift_jis"
	EUCJP     = "euc-jp"
	Latin1    = "iso-8859-1"
	ISO2022JP = "iso-2022-jp"
)

// Decode returns b as valid UTF-8 and the character set that it was read as.
// The setting of the source, if it is one of the names above, decides only
// where b is neither ASCII nor valid UTF-8. What cannot be decoded becomes U+FFFD.
func Decode(b []byte, setting string) (text, name string) {
	name = Detect(b, setting)
	return DecodeAs(b, name), name
}

// Detect returns the character set that [Decode] reads b as.
func Detect(b []byte, setting string) string {
	if isASCII(b) {
		if bytes.IndexByte(b, 0x1b) >= 0 && isISO2022JP(b) {
			return ISO2022JP
		}
		return ASCII
	}
	if utf8.Valid(b) {
		return UTF8
	}
	switch setting {
	case ShiftJIS, EUCJP, Latin1, ISO2022JP:
		return setting
	}
	return guess(b)
}

// DecodeAs reads b as the named character set; an unknown name is read as
// UTF-8. A part of a message is decoded with the name found for the whole.
func DecodeAs(b []byte, name string) string {
	var e encoding.Encoding
	switch name {
	case ShiftJIS:
		e = japanese.ShiftJIS
	case EUCJP:
		e = japanese.EUCJP
	case ISO2022JP:
		e = japanese.ISO2022JP
	case Latin1:
		return latin1(b)
	default:
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	if isASCII(b) && name != ISO2022JP {
		return string(b)
	}
	out, err := e.NewDecoder().Bytes(b)
	if err != nil { // these decoders replace and do not fail
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return string(out)
}

func latin1(b []byte) string {
	var sb strings.Builder
	sb.Grow(len(b) + len(b)/4)
	for _, c := range b {
		r := rune(c)
		if c >= 0x80 && c < 0xa0 {
			if w := charmap.Windows1252.DecodeByte(c); w != utf8.RuneError {
				r = w
			}
		}
		sb.WriteRune(r)
	}
	return sb.String()
}

func isASCII(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// isISO2022JP reports whether b, which is ASCII, has a designation of a
// Japanese set (RFC 1468) and decodes without fault. Terminals' colour
// sequences begin with the same byte.
func isISO2022JP(b []byte) bool {
	found := false
	for _, esc := range [...]string{"\x1b$B", "\x1b$@", "\x1b(J", "\x1b(I", "\x1b$(D"} {
		found = found || bytes.Contains(b, []byte(esc))
	}
	return found && !strings.Contains(DecodeAs(b, ISO2022JP), "\uFFFD")
}
