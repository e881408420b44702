package account_test

import (
	"strings"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/account"
)

func TestPassword(t *testing.T) {
	h, err := account.HashPassword(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		hash, password string
		want           futago.Code
	}{
		"right":      {h, "correct horse battery", ""},
		"wrong":      {h, "correct horse batterz", futago.CodeUnauthorized},
		"empty":      {h, "", futago.CodeUnauthorized},
		"no user":    {"", "correct horse battery", futago.CodeUnauthorized},
		"no hash":    {"plain", "plain", futago.CodeCorrupt},
		"huge":       {h, strings.Repeat("x", 1<<20), futago.CodeUnauthorized},
		"greedy":     {strings.Replace(h, "m=65536", "m=4294967295", 1), "x", futago.CodeCorrupt},
		"other algo": {strings.Replace(h, "argon2id", "argon2i", 1), "correct horse battery", futago.CodeCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if got := futago.CodeOf(account.CheckPassword(t.Context(), c.hash, c.password)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if _, err := account.HashPassword(t.Context(), "elevenchars"); futago.CodeOf(err) != futago.CodeInvalid {
		t.Errorf("short password: %v", err)
	}
}

func TestToken(t *testing.T) {
	id, text, hash := account.NewToken()
	gotID, gotHash, ok := account.SplitToken(text)
	if !ok || gotID != id || !account.SameHash(gotHash, hash) {
		t.Errorf("SplitToken(%q) = %q, %q, %v; want %q, %q", text, gotID, gotHash, ok, id, hash)
	}
	if strings.Contains(text, hash) {
		t.Error("the token holds its hash")
	}
	for _, bad := range []string{"", "fgt_", "fgt_.x", "fgt_x.", "x.y", "Bearer " + text} {
		if _, _, ok := account.SplitToken(bad); ok {
			t.Errorf("SplitToken(%q) is a token", bad)
		}
	}
}
