package text

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/futago/futago"
)

func tokens(s string) (list []string) {
	Tokens(s, nil, func(t []byte) { list = append(list, string(t)) })
	return list
}

func TestTokens(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"Link-DOWN eth0/1.":              "link down eth0 1",
		"from 10.0.0.1:514, v1.2":        "from 10.0.0.1 514 v1 2",
		"1.3.6.1.4.1.9. x":               "1.3.6.1.4.1.9 x",
		"回線断":                            "回線 線断 断",
		"断":                              "断",
		"eth0が停止":                        "eth0 が停 停止 止",
		"ルーター再起動。障害":                     "ルー ータ ター ー再 再起 起動 動 障害 害",
		"ＦＵＬＬ　ｶﾞｲﾄﾞ":                     "full ガイ イド ド",
		"Größe ÅNGSTRÖM":                 "größe ångström",
		"a\x00b\x1b[31mc \xff\xfed":      "a b 31mc d",
		"foo_bar=baz;":                   "foo bar baz",
		"%LINK-3-UPDOWN: x":              "link 3 updown x",
		"서버 다운":                          "서버 버 다운 운",
		strings.Repeat("a", MaxToken+3):  strings.Repeat("a", MaxToken) + " aaa",
		strings.Repeat("1.", MaxToken/2): strings.Repeat("1.", MaxToken/2-1) + "1",
	} {
		if d := cmp.Diff(strings.Fields(want), tokens(in)); d != "" && (want != "" || len(tokens(in)) > 0) {
			t.Errorf("%q: %s", in, d)
		}
	}
}

func TestPlainTextIsNormal(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if s := string(r); utf8.ValidRune(r) && plain(s) && !norm.NFKC.IsNormalString(s) {
			t.Fatalf("%U is not in NFKC form", r)
		}
	}
}

func match(typed, message string) bool {
	return NewMatcher(Parse(typed)).Match(&futago.Trap{Message: message})
}

func TestMatch(t *testing.T) {
	const m = "Interface GigabitEthernet0/1 は停止しました, peer 10.0.0.1 lost"
	for typed, want := range map[string]bool{
		"":                          true,
		`"* ( ) - " AND`:            false, // "and" is a word like others
		`" * ( ) -`:                 true,
		"interface":                 true,
		"INTER":                     false,
		"inter*":                    true,
		"interface lost":            true,
		"lost interface":            true,
		`"lost interface"`:          false,
		`"interface gigabit"*`:      true,
		`"interface gigabit`:        false,
		"gigabitethernet0/1":        true,
		"gigabitethernet0/2":        false,
		"停":                         true,
		"止":                         true,
		"停止し":                       true,
		"停止 ました":                    true,
		"停止ました":                     false,
		"10.0.0.1":                  true,
		"10.0.0":                    false,
		"10.0.0.*":                  true,
		"10.0":                      false,
		`"peer 10.0.0.1"`:           true,
		"１０．０．０．１":                  true,
		`interface"peer"nothere`:    false,
		`interface"peer"`:           true,
		"interface OR nothere":      false,
		strings.Repeat("lost ", 99): true,
	} {
		if got := match(typed, m); got != want {
			t.Errorf("%q: %v", typed, got)
		}
	}
}

func TestMatch_FieldsStayApart(t *testing.T) {
	trap := &futago.Trap{
		Message: "one two", Host: "three",
		SNMP:   &futago.SNMPFields{TrapOID: "1.3.6.1.6.3.1.1.5.3", Varbinds: []futago.Varbind{{OID: "1.2", Value: "ifDescr eth7"}}},
		Custom: &futago.CustomFields{Key: "power", Msg: "失われた"},
	}
	for typed, want := range map[string]bool{
		"two three": true, `"two three"`: false, "1.3.6.1.6.3.1.1.5.3": true, "eth7 power われ": true,
	} {
		if got := NewMatcher(Parse(typed)).Match(trap); got != want {
			t.Errorf("%q: %v", typed, got)
		}
	}
}

// A query in Japanese finds what contains it, wherever it begins.
func TestMatch_JapaneseIsSubstring(t *testing.T) {
	chars := []rune("回線断復旧ルータが停止ー々")
	run := rapid.StringOfN(rapid.SampledFrom(chars), 1, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.OneOf(run, rapid.SampledFrom([]string{"eth0", " ", "。", "x"})), 1, 8).Draw(t, "message")
		message := strings.Join(parts, "")
		typed := run.Draw(t, "typed")
		if got, want := match(typed, message), strings.Contains(message, typed); got != want {
			t.Fatalf("%q in %q: %v", typed, message, got)
		}
	})
}

// A piece of a message, cut where tokens begin and end, is found as a phrase.
func TestMatch_WordsOfTheMessageAreFound(t *testing.T) {
	word := rapid.StringMatching(`[a-zA-Z0-9é回線断.:/_-]{1,9}`)
	rapid.Check(t, func(t *rapid.T) {
		ws := rapid.SliceOfN(word, 1, 8).Draw(t, "words")
		i := rapid.IntRange(0, len(ws)-1).Draw(t, "i")
		j := rapid.IntRange(i, len(ws)-1).Draw(t, "j")
		message := strings.Join(ws, " ")
		if typed := `"` + strings.Join(ws[i:j+1], " ") + `"`; !match(typed, message) {
			t.Fatalf("%s is not found in %q", typed, message)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`a "b c" d*`, `"`, `""`, `*`, "回線*", `"ｱ"*`, "\xff\"", "a\"b"} {
		f.Add(s, "a b c 回線断")
	}
	f.Fuzz(func(t *testing.T, typed, message string) {
		q := Parse(typed)
		if len(q) > MaxClauses {
			t.Fatalf("%d clauses", len(q))
		}
		for _, c := range q {
			if len(c.Tokens) == 0 || slices.Contains(c.Tokens, "") {
				t.Fatalf("empty clause in %v", q)
			}
		}
		NewMatcher(q).Match(&futago.Trap{Message: message})
		for _, tok := range tokens(message) {
			if len(tok) > MaxToken+utf8.UTFMax || !utf8.ValidString(tok) {
				t.Fatalf("token %q", tok)
			}
		}
	})
}
