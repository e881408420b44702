package charset

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"pgregory.net/rapid"
)

// Japanese phrases as devices and job systems log them.
var japanesePhrases = []string{
	"障害が発生しました",
	"ディスク使用率が閾値を超過しました (92%)",
	"プロセス httpd が停止しました。再起動します。",
	"ﾊｰﾄﾞﾃﾞｨｽｸ ｴﾗｰ 検出",
	"ﾃﾞｨｽｸ ｴﾗｰ",
	"ﾃｽﾄﾒｯｾｰｼﾞ",
	"ﾈｯﾄﾜｰｸ ﾘﾝｸﾀﾞｳﾝ port 12",
	"ﾊﾞｯﾃﾘｰ ｺｳｶﾝ",
	"ｻｰﾊﾞ ﾀﾞｳﾝ",
	"ﾌｧﾝ ｲｼﾞｮｳ ｹﾝﾁ",
	"ﾛｸﾞｲﾝ ｼｯﾊﾟｲ user=tanaka",
	"ﾒﾓﾘ ﾌｿｸ",
	"ｱｸｾｽ ｴﾗｰ",
	"ｼﾞｮﾌﾞ JOB001 ｲｼﾞｮｳｼｭｳﾘｮｳ rc=8",
	"Error: 接続に失敗しました host=10.1.2.3 port=5432",
	"JOB001 異常終了 rc=8",
	"正常",
	"異常",
	"警告",
	"起動",
	"電源 ON",
	"障害",
	"復旧しました",
	"UPS: 停電を検知しました。シャットダウンを開始します。",
	"表示",
	"ソフトウェアの更新",
	"能登支店のルータ応答なし",
	"申請 十 予 貼 暴 構 ソ 噂 表 欺", // trail bytes 0x5C in Shift_JIS
	"ユーザー「山田太郎」がログインしました",
	"ジョブネット：夜間バッチ／ジョブ：集計　終了状態（異常）",
	"①番回線が切断されました～",
	"温度異常：４５℃",
	"ＣＰＵ使用率：９５％",
	"メモリ不足のためプロセスを強制終了しました pid=1234",
	"ファイル /var/log/アプリ.log を開けません",
	"齋藤 髙橋 渡邊 が承認しました",
	"あ",
	"ア",
	"リンクダウン",
	"リンクアップ ge-0/0/1",
	"%LINK-3-UPDOWN: インタフェース GigabitEthernet0/1 がダウンしました",
	"[重要] バックアップが失敗しました。管理者に連絡してください。",
	"時刻同期エラー: サーバ ntp1 からの応答がありません",
	"証明書の有効期限が切れています (残り0日)",
	"ログイン失敗: ユーザ admin（3回目）",
}

// cutWestern is UTF-8 of two-byte characters.
var cutWestern = []string{"Vérification échouée", "Größe überschritten: Gerätename ä", "déjà"}

var westernPhrases = []string{
	"Échec de la vérification du système de fichiers",
	"Température 45°C dépassée",
	"Größe der Datei überschritten",
	"Verbindung zurückgesetzt: Gerät nicht verfügbar",
	"Conexión perdida con el servidor, señal débil",
	"Falha na autenticação do usuário: senha inválida",
	"Température élevée",
	"Lüfter ausgefallen",
	"Überlast",
	"Ändern",
	"déjà vu",
	"naïve café",
	"Fläche 12 m², 5 µs",
	"Åtkomst nekad för användare",
	"Fejl på enhed: kan ikke åbne fil",
	"45°C",
	"© ACME",
	"£100",
	"L’interface est tombée",
}

func encode(t testing.TB, e encoding.Encoding, s string) []byte {
	t.Helper()
	b, err := e.NewEncoder().Bytes([]byte(s))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

func TestDecode_DetectsJapanese(t *testing.T) {
	for _, c := range []struct {
		name string
		enc  encoding.Encoding
	}{{ShiftJIS, japanese.ShiftJIS}, {EUCJP, japanese.EUCJP}, {ISO2022JP, japanese.ISO2022JP}} {
		for _, want := range japanesePhrases {
			b, err := c.enc.NewEncoder().Bytes([]byte(want))
			if err != nil {
				if c.name != ISO2022JP {
					t.Errorf("%s: %q: %v", c.name, want, err)
				}
				continue // not a character of JIS X 0208
			}
			got, name := Decode(b, "")
			if got != want || name != c.name {
				t.Errorf("%s %q read as %s %q (scores utf-8 %d, shift_jis %d, euc-jp %d, latin1 %d)", c.name, want, name, got,
					scoreUTF8(b), scoreShiftJIS(b), scoreEUCJP(b), scoreLatin1(b))
			}
			// In the middle of a longer line of ASCII, as syslog has it.
			line := "app[123]: " + want + " (id=7f, see /var/log/x)"
			if b, err = c.enc.NewEncoder().Bytes([]byte(line)); err != nil {
				t.Fatal(err)
			}
			if got, name := Decode(b, ""); got != line || name != c.name {
				t.Errorf("%s %q read as %s %q", c.name, line, name, got)
			}
		}
	}
}

func TestDecode_DetectsLatin1(t *testing.T) {
	for _, want := range westernPhrases {
		b := encode(t, charmap.Windows1252, want)
		if got, name := Decode(b, ""); got != want || name != Latin1 {
			t.Errorf("%q read as %s %q (scores utf-8 %d, shift_jis %d, euc-jp %d, latin1 %d)", want, name, got,
				scoreUTF8(b), scoreShiftJIS(b), scoreEUCJP(b), scoreLatin1(b))
		}
	}
}

func TestDecode_UTF8(t *testing.T) {
	for _, want := range append(append([]string{}, japanesePhrases...), westernPhrases...) {
		if got, name := Decode([]byte(want), ""); got != want || name != UTF8 {
			t.Errorf("%q read as %s %q", want, name, got)
		}
		// Valid UTF-8 goes before the setting.
		if got, name := Decode([]byte(want), ShiftJIS); got != want || name != UTF8 {
			t.Errorf("with setting: %q read as %s %q", want, name, got)
		}
	}
}

func TestDecode_CutText(t *testing.T) {
	// Devices cut messages at a number of bytes, through a character.
	for _, s := range cutWestern {
		b := []byte(s)[:strings.LastIndexAny(s, "éäà")+1]
		if got, name := Decode(b, ""); name != UTF8 || !strings.HasSuffix(got, "\uFFFD") {
			t.Errorf("%q read as %s %q (utf-8 %d, latin1 %d)", b, name, got, scoreUTF8(b), scoreLatin1(b))
		}
	}
	for _, want := range japanesePhrases {
		if len([]rune(want)) < 4 || strings.ContainsRune(want, '①') {
			continue
		}
		for name, e := range map[string]encoding.Encoding{UTF8: encoding.Nop, ShiftJIS: japanese.ShiftJIS, EUCJP: japanese.EUCJP} {
			b := encode(t, e, want)
			b = b[:len(b)-1]
			if isASCII(b[len(b)-2:]) || utf8.Valid(b) {
				continue
			}
			if _, got := Decode(b, ""); got != name {
				t.Errorf("%s %q without its last byte read as %s (scores utf-8 %d, shift_jis %d, euc-jp %d, latin1 %d)", name, want, got,
					scoreUTF8(b), scoreShiftJIS(b), scoreEUCJP(b), scoreLatin1(b))
			}
		}
	}
}

func TestDecode_Setting(t *testing.T) {
	b := []byte{0xc3, 0xbd, 0xc4} // ﾃｽﾄ in Shift_JIS, Ã½Ä in ISO-8859-1
	for setting, want := range map[string]string{
		ShiftJIS: "ﾃｽﾄ", Latin1: "Ã½Ä", "": "ﾃｽﾄ", "klingon": "ﾃｽﾄ", EUCJP: "箪\uFFFD", ISO2022JP: "\uFFFD\uFFFD\uFFFD",
	} {
		if got, _ := Decode(b, setting); got != want {
			t.Errorf("setting %q: %q, want %q", setting, got, want)
		}
	}
	for _, s := range []string{"", "plain ascii \\ ~ 123"} {
		if got, name := Decode([]byte(s), ShiftJIS); got != s || name != ASCII {
			t.Errorf("%q read as %s %q", s, name, got)
		}
	}
}

func TestDecode_LongText(t *testing.T) {
	want := strings.Repeat("a", 100<<10) + strings.Repeat("障害が発生しました。", 20<<10)
	if got, name := Decode(encode(t, japanese.EUCJP, want), ""); name != EUCJP || got != want {
		t.Errorf("read as %s", name)
	}
}

func TestDecode_EscapesThatAreNoJapanese(t *testing.T) {
	for _, s := range []string{"\x1b[31mred\x1b[0m", "\x1b(B plain", "\x1b$B", "\x1b$B\x01\x02", "\x1b"} {
		if got, name := Decode([]byte(s), ""); name == ISO2022JP && strings.Contains(got, "\uFFFD") || !utf8.ValidString(got) {
			t.Errorf("%q read as %s %q", s, name, got)
		}
	}
	if got, name := Decode([]byte("\x1b[31mred\x1b[0m"), ""); name != ASCII || got != "\x1b[31mred\x1b[0m" {
		t.Errorf("%s %q", name, got)
	}
}

func TestDecode_AlwaysValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		setting := rapid.SampledFrom([]string{"", ShiftJIS, EUCJP, Latin1, ISO2022JP, "x"}).Draw(t, "setting")
		text, name := Decode(b, setting)
		if !utf8.ValidString(text) {
			t.Fatalf("invalid UTF-8 %q as %s", text, name)
		}
		if utf8.Valid(b) && name != ISO2022JP && text != string(b) {
			t.Fatalf("%q changed to %q", b, text)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, p := range japanesePhrases[:8] {
		f.Add(encode(f, japanese.ShiftJIS, p), "")
		f.Add(encode(f, japanese.EUCJP, p), "")
	}
	f.Add([]byte("\x1b$B\x25\x46"), "")
	f.Fuzz(func(t *testing.T, b []byte, setting string) {
		if text, name := Decode(b, setting); !utf8.ValidString(text) {
			t.Errorf("invalid UTF-8 as %s", name)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	phrase := "app[123]: " + japanesePhrases[1] + " path=/var/lib/data"
	for _, c := range []struct {
		name string
		in   []byte
	}{
		{"ascii", []byte("sshd[2213]: Accepted publickey for root from 192.0.2.10 port 50522 ssh2: ED25519 SHA256:abc")},
		{"utf-8", []byte(phrase)},
		{"shift_jis", encode(b, japanese.ShiftJIS, phrase)},
		{"euc-jp", encode(b, japanese.EUCJP, phrase)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, name := Decode(c.in, ""); name == "" {
					b.Fatal(fmt.Sprint(name))
				}
			}
		})
	}
}
