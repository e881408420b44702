package generate

import (
	"bytes"
	"encoding/hex"
	"strings"
)

// Every trap carries a mark: "ftg:", the run and the number of the trap in
// eight hexadecimal digits each. The mark has a fixed length and looks the same
// in every kind of trap, raw or parsed.
const (
	markPrefix = "ftg:"
	markLen    = len(markPrefix) + 8 + 1 + 8 + 1
)

func appendMark(dst []byte, run, number uint32) []byte {
	dst = append(dst, markPrefix...)
	dst = appendHex32(dst, run)
	dst = append(dst, ':')
	dst = appendHex32(dst, number)
	return append(dst, ';')
}

func appendHex32(dst []byte, v uint32) []byte {
	const digits = "0123456789abcdef"
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, digits[v>>shift&15])
	}
	return dst
}

// FindMark returns the run and the number of the first whole mark in b.
func FindMark(b []byte) (run, number uint32, ok bool) {
	for {
		i := bytes.Index(b, []byte(markPrefix))
		if i < 0 || len(b) < i+markLen {
			return 0, 0, false
		}
		m := b[i+len(markPrefix) : i+markLen]
		var v [8]byte
		_, err1 := hex.Decode(v[:4], m[:8])
		_, err2 := hex.Decode(v[4:], m[9:17])
		if err1 == nil && err2 == nil && m[8] == ':' && m[17] == ';' {
			be := func(p []byte) uint32 {
				return uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3])
			}
			return be(v[:4]), be(v[4:]), true
		}
		b = b[i+1:]
	}
}

// The words that texts are made of. Some are not ASCII.
var words = [...]string{
	"interface", "port 17", "link down", "温度異常", "fan", "BGP peer", "läuft nicht", "auth failure", "disk", "ups",
	"rebooted", "[4711]", "key=value", `"quoted"`, "100%", "プロセス停止", "over limit", "€", "eth0/1", "ok",
}

// Text is the message of a trap: its mark and some words that depend on run and
// number alone, 24 to about 300 bytes.
func Text(run, number uint32) string { return string(appendText(nil, run, number)) }

func appendText(dst []byte, run, number uint32) []byte {
	dst = appendMark(dst, run, number)
	// splitmix64, so that a text costs no generator of its own.
	x := uint64(run)<<32 | uint64(number)
	next := func() uint64 {
		x += 0x9e3779b97f4a7c15
		z := x
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	for n := next()%20 + 1; n > 0; n-- {
		dst = append(dst, ' ')
		dst = append(dst, words[next()%uint64(len(words))]...)
	}
	return dst
}

// isFragment reports whether got is the beginning of want and not all of it.
func isFragment(got, want string) bool {
	return len(got) < len(want) && strings.HasPrefix(want, got)
}
