// Package text cuts messages into searchable tokens and reads what operators
// type into the search box. It is pure: the search index, the direct scan and
// the tests all decide by it alone whether an event matches.
//
// A token is
//   - a run of letters and digits, folded to lower case and to its NFKC form
//     (full-width letters, half-width katakana);
//   - a run of digits and dots between digits (addresses, object identifiers,
//     versions) as one token;
//   - in Chinese, Japanese and Korean runs, which have no spaces: every pair of
//     neighbouring characters, and the last character alone.
//
// Everything else separates tokens.
package text

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxToken is the greatest length of a token in bytes; longer runs are cut
// into several tokens (a base64 text, say).
const MaxToken = 64

// Tokens calls emit for each token of s in order. The slice is valid during
// the call alone. scratch may be nil; its memory is reused and returned.
func Tokens(s string, scratch []byte, emit func(tok []byte)) []byte {
	if !plain(s) && !norm.NFKC.IsNormalString(s) {
		s = norm.NFKC.String(s)
	}
	t := tokenizer{buf: scratch[:0], emit: emit}
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			t.ascii(c, i+1 < len(s) && digit(s[i+1]))
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		t.rune(r)
		i += n
	}
	t.end()
	return t.buf[:0]
}

// plain reports whether s is in NFKC form for certain: ASCII, and the common
// ranges of Japanese text, which have no other form.
func plain(s string) bool {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !commonCJK(r) && r != '、' && r != '。' {
			return false
		}
		i += n
	}
	return true
}

// commonCJK is CJK for the characters that most Japanese text is made of.
func commonCJK(r rune) bool {
	return 'ぁ' <= r && r <= 'ゖ' || 'ァ' <= r && r <= 'ヺ' || r == 'ー' || 0x4e00 <= r && r <= 0x9fff
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// tokenizer holds the token under way in buf: a word, or the last character of
// a CJK run.
type tokenizer struct {
	buf    []byte
	emit   func([]byte)
	cjk    bool // buf holds a CJK character
	number bool // buf holds digits and dots only
}

func (t *tokenizer) end() {
	if len(t.buf) > 0 {
		t.emit(t.buf)
	}
	t.buf, t.cjk, t.number = t.buf[:0], false, false
}

func (t *tokenizer) ascii(c byte, digitNext bool) {
	switch {
	case 'A' <= c && c <= 'Z':
		c += 'a' - 'A'
		fallthrough
	case 'a' <= c && c <= 'z':
		t.word(false)
		t.buf = append(t.buf, c)
	case digit(c):
		t.word(true)
		t.buf = append(t.buf, c)
	case c == '.' && t.number && digitNext && len(t.buf) < MaxToken:
		t.buf = append(t.buf, c)
	default:
		t.end()
	}
}

// word prepares buf for the next character of a word.
func (t *tokenizer) word(isDigit bool) {
	if t.cjk || len(t.buf) >= MaxToken {
		t.end()
	}
	t.number = isDigit && (t.number || len(t.buf) == 0)
}

func (t *tokenizer) rune(r rune) {
	switch {
	case CJK(r):
		if !t.cjk {
			t.end()
		}
		n := len(t.buf)
		t.buf = utf8.AppendRune(t.buf, r)
		if n > 0 {
			t.emit(t.buf)
			t.buf = append(t.buf[:0], t.buf[n:]...)
		}
		t.cjk = true
	case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) && len(t.buf) > 0 && !t.cjk:
		t.word(false)
		t.buf = utf8.AppendRune(t.buf, unicode.ToLower(r))
	default:
		t.end()
	}
}

// CJK reports whether r belongs to a script that is written without spaces.
func CJK(r rune) bool {
	if r < 0x1100 {
		return false
	}
	return commonCJK(r) || r == '々' || r == '〆' ||
		unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul)
}
