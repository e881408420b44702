package cluster

import (
	"encoding/base64"
	"encoding/json"
	"testing"
)

// Redirect returns token with the issuer's address of other.
func Redirect(t *testing.T, token, other string) string {
	t.Helper()
	a, err := parseJoinToken(token)
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseJoinToken(other)
	if err != nil {
		t.Fatal(err)
	}
	a.API = b.API
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return joinPrefix + base64.RawURLEncoding.EncodeToString(raw)
}
