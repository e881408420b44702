package charset

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding/japanese"
)

// The scores of one character, in quarters. A set's score is the sum over the
// message, and all sets score the same bytes, so only the proportions matter:
// how much likelier a class of characters is in a log message than by chance.
const (
	scoreInvalid   = -60
	scoreKana      = 12 // hiragana, full-width katakana
	scoreCommon    = 12 // a kanji that log messages use
	scoreRare      = 3  // another kanji of JIS level 1
	scoreLevel2    = -6
	scorePunct     = 8 // 、。ー「」 and the like
	scoreSymbol    = 2
	scoreWide      = 5 // full-width letters and digits
	scoreForeign   = -6
	scoreStray     = -20 // a double-byte character in the middle of Latin letters
	scoreHalf      = 3   // half-width katakana, one byte
	scoreHalfLone  = -12
	scoreVoiced    = 6
	scoreMisvoiced = -40
	scoreLong      = 4
	scoreHalfPunct = -8
	scoreAccented  = 16 // ISO-8859-1 letter beside ASCII letters
	scoreAccent    = 2
	scoreRun       = -16 // ISO-8859-1 letters in a row of three and more
	scoreC1        = -24
	scoreUTF8x2    = 8
	scoreUTF8x3    = 40
)

// enough bytes, from the first that is not ASCII, tell what the rest is.
const enough = 16 << 10

// guess picks the likeliest character set of b, which has bytes above 0x7F and
// is no valid UTF-8. Equal scores go to the set named first.
func guess(b []byte) string {
	first := bytes.IndexFunc(b, func(r rune) bool { return r >= utf8.RuneSelf })
	b = b[max(0, first-1):]
	b = b[:min(len(b), enough)]
	best, name := scoreUTF8(b), UTF8
	for _, c := range [...]struct {
		name  string
		score func([]byte) int
	}{{ShiftJIS, scoreShiftJIS}, {EUCJP, scoreEUCJP}, {Latin1, scoreLatin1}} {
		if s := c.score(b); s > best {
			best, name = s, c.name
		}
	}
	return name
}

// scoreUTF8 is high for UTF-8 that was cut or damaged in a place or two.
func scoreUTF8(b []byte) int {
	sum := 0
	for len(b) > 0 {
		if b[0] < utf8.RuneSelf {
			b = b[1:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			if !utf8.FullRune(b) { // cut at the end
				return sum
			}
			sum += scoreInvalid
		case n == 2:
			sum += scoreUTF8x2
		default:
			sum += scoreUTF8x3
		}
		b = b[n:]
	}
	return sum
}

func scoreShiftJIS(b []byte) int {
	sum := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case c < 0x80:
		case c >= 0xa1 && c <= 0xdf:
			sum += scoreHalfWidth(b, i)
		case c == 0x80 || c == 0xa0 || c >= 0xfd:
			sum += scoreInvalid
		case i+1 == len(b): // cut at the end
		default:
			row, cell, ok := shiftJISPosition(c, b[i+1])
			if !ok {
				sum += scoreInvalid
				continue
			}
			s := scorePosition(row, cell)
			if b[i+1] < 0x80 && s < scoreCommon && i > 0 && isLetter(b[i-1]) && (i+2 == len(b) || b[i+2] < 0x80) {
				s = scoreStray
			}
			sum += s
			i++
		}
	}
	return sum
}

// shiftJISPosition turns the two bytes into row and cell of JIS X 0208, with
// the extensions of IBM as rows 115 to 120 (JIS X 0208 annex 1).
func shiftJISPosition(lead, trail byte) (row, cell int, ok bool) {
	if trail < 0x40 || trail == 0x7f || trail > 0xfc {
		return 0, 0, false
	}
	l := int(lead) - 0x81
	if lead >= 0xe0 {
		l = int(lead) - 0xc1
	}
	t := int(trail) - 0x40
	if trail > 0x7f {
		t--
	}
	row, cell = 2*l+1, t+1
	if t >= 94 {
		row, cell = row+1, t-94+1
	}
	return row, cell, true
}

func scoreEUCJP(b []byte) int {
	high := func(i int) bool { return i < len(b) && b[i] >= 0xa1 && b[i] <= 0xfe }
	sum := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case c < 0x80:
		case i+1 == len(b) && (c == 0x8e || c == 0x8f || high(i)): // cut at the end
		case c == 0x8e && high(i+1) && b[i+1] <= 0xdf: // half-width katakana
			sum += scoreKana
			i++
		case c == 0x8f && high(i+1) && high(i+2): // JIS X 0212
			sum += scoreLevel2
			i += 2
		case c >= 0xa1 && c <= 0xfe && high(i+1):
			sum += scorePosition(int(c)-0xa0, int(b[i+1])-0xa0)
			i++
		default:
			sum += scoreInvalid
		}
	}
	return sum
}

// scorePosition scores a character by its place in JIS X 0208.
func scorePosition(row, cell int) int {
	switch {
	case row == 1:
		switch cell {
		case 1, 2, 3, 4, 6, 7, 8, 10, 28, 33, 42, 43, 54, 55: // space 、 。 ， ・ ： ； ！ ー ～ （ ） 「 」
			return scorePunct
		}
		return scoreSymbol
	case row == 2 || row == 13:
		return scoreSymbol
	case row == 3:
		return scoreWide
	case row == 4 || row == 5:
		return scoreKana
	case row >= 6 && row <= 8:
		return scoreForeign
	case row >= 16 && row <= 47:
		if commonKanji()[[2]byte{byte(row), byte(cell)}] {
			return scoreCommon
		}
		return scoreRare
	case row >= 48 && row <= 84:
		if commonKanji()[[2]byte{byte(row), byte(cell)}] {
			return scoreCommon
		}
		return scoreLevel2
	case row >= 89 && row <= 92, row >= 115 && row <= 119:
		return scoreLevel2 // extensions of NEC and IBM
	}
	return scoreInvalid
}

// scoreHalfWidth scores the half-width katakana at i by its neighbours.
func scoreHalfWidth(b []byte, i int) int {
	half := func(j int) bool { return j >= 0 && j < len(b) && b[j] >= 0xa1 && b[j] <= 0xdf }
	if !half(i-1) && !half(i+1) {
		return scoreHalfLone
	}
	prev := byte(0)
	if half(i - 1) {
		prev = b[i-1]
	}
	voiceable := prev >= 0xb6 && prev <= 0xc4 || prev >= 0xca && prev <= 0xce // ｶ to ﾄ, ﾊ to ﾎ
	letter := prev >= 0xa6 && prev <= 0xdd
	switch c := b[i]; {
	case c == 0xde: // voiced
		if voiceable || prev == 0xb3 { // ｳﾞ
			return scoreVoiced
		}
		return scoreMisvoiced
	case c == 0xdf: // half voiced
		if prev >= 0xca && prev <= 0xce {
			return scoreVoiced
		}
		return scoreMisvoiced
	case c == 0xb0: // ｰ
		if letter || prev == 0xde || prev == 0xdf {
			return scoreLong
		}
		return scoreMisvoiced
	case c >= 0xa7 && c <= 0xaf: // small letters
		if letter || prev == 0xde || prev == 0xdf {
			return scoreLong
		}
		return scoreMisvoiced / 2
	case c == 0xa4 || c == 0xa5 || c == 0xa6: // ､ ･ ｦ
		return scoreHalfPunct
	case c < 0xa6: // ｡ ｢ ｣
		return 0
	}
	return scoreHalf
}

func scoreLatin1(b []byte) int {
	high := func(j int) bool { return j >= 0 && j < len(b) && b[j] >= 0x80 }
	sum := 0
	for i, c := range b {
		if c < 0x80 {
			continue
		}
		before, after := i > 0 && isLetter(b[i-1]), i+1 < len(b) && isLetter(b[i+1])
		run := high(i-1) && (high(i+1) || high(i-2)) || high(i+1) && high(i+2)
		switch {
		case run || c >= 0xc2 && c <= 0xdf && i+1 < len(b) && b[i+1]&0xc0 == 0x80: // a pair of UTF-8
			sum += scoreRun
		case c < 0xa0:
			// The euro sign, quotes and dashes of Windows-1252 occur in text.
			quote := c == 0x80 || c == 0x85 || c >= 0x91 && c <= 0x97
			if !quote || high(i-1) || high(i+1) {
				sum += scoreC1
			}
		case c < 0xc0 || c == 0xd7 || c == 0xf7:
			if !high(i-1) && !high(i+1) {
				sum += scoreAccent // a sign, as in 45°C
			}
		case before || after:
			sum += scoreAccented
		default:
			sum += scoreAccent
		}
	}
	return sum
}

func isLetter(c byte) bool {
	c |= 0x20
	return c >= 'a' && c <= 'z'
}

// commonKanji is the set of kanji that Japanese log messages are full of, by
// row and cell of JIS X 0208.
var commonKanji = sync.OnceValue(func() map[[2]byte]bool {
	set := make(map[[2]byte]bool)
	enc := japanese.EUCJP.NewEncoder()
	for _, r := range kanji {
		if b, err := enc.Bytes([]byte(string(r))); err == nil && len(b) == 2 {
			set[[2]byte{b[0] - 0xa0, b[1] - 0xa0}] = true
		}
	}
	return set
})

const kanji = "障害発生検知異常正常復旧回復接続切断失敗成功開始終了停止起動再実行処理中完了" +
	"警告注意情報重要致命緊急通知監視対象機器装置設定変更更新追加削除登録解除有効無効" +
	"通信回線網経路送信受信応答要求待時間間隔経過超過到達不可能不明未済可否使用率利用容量" +
	"閾値上限下限以上以下空領域不足残量温度電源供給電圧電流電池冷却風扇回転数速度" +
	"認証許可拒否権限利用者管理者名前番号識別子鍵証明書期限切署名暗号化" +
	"表示出力入力読取書込保存保管取得格納履歴記録消去初期化準備予約予定日時分秒年月週" +
	"内部外部内容原因詳細説明状態状況結果件数個数合計最大最小平均現在前後次回" +
	"本体筐体制御部品交換抜挿入故障破損修理点検確認調査依頼連絡担当" +
	"東京大阪名古屋福岡札幌仙台支店本社拠点工場施設室階棟号機系列第一二三四五六七八九十百千万" +
	"用途計画作業開閉全部一部共有共通個別単位種別種類形式方式方法手動自動" +
	"主従副待機系切替交代同期非同期複製転送配信配布収集集計分析解析比較判定評価" +
	"他無有大小高低長短新旧多少強弱良悪左右前後上下内外東西南北中央端末" +
	"出入来行見言人体口手足力工場会社員学校国地方水火木金土気天地空海山川" +
	"定義構成要素項目指令命令引数変数文字列型関数例外例示誤重複欠落遅延低下上昇増加減少" +
	"振舞防止止留保持継続連続断続瞬断全断瞬時常時随時即時夜間昼間業務運用保守" +
	"不正侵入攻撃遮断許容範囲外部内部接点警報漏洩漏電過負荷過熱過電流異音煙火災地震水害" +
	"試験検査検索検証照合合致不一致一致整合性完全部分的"
