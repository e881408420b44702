package cluster

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/futago/futago"
)

// joinPrefix marks a join token and its version.
const joinPrefix = "fgj1."

// joinToken is what the printed token holds. It pins the cluster's CA, so that
// the joiner cannot be led to another cluster.
type joinToken struct {
	API    string          `json:"api"` // host:port of the issuer
	Pin    string          `json:"pin"` // of the cluster's CA
	Member futago.MemberID `json:"member"`
	ID     string          `json:"id"`
	Secret string          `json:"secret"`
}

func newJoinToken(api, pin string, m futago.MemberID) joinToken {
	return joinToken{API: api, Pin: pin, Member: m, ID: randomHex(), Secret: randomHex() + randomHex()}
}

// encode writes the token as one word to be copied.
func (t joinToken) encode() (string, error) {
	b, err := json.Marshal(t)
	return joinPrefix + base64.RawURLEncoding.EncodeToString(b), err
}

func parseJoinToken(s string) (t joinToken, err error) {
	bad := futago.Errorf(futago.CodeInvalid, "this is no join token").
		WithAction("paste the whole line that futago token join printed; it begins with %s", joinPrefix)
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), joinPrefix)
	if !ok {
		return t, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil {
		return t, bad
	}
	if err := json.Unmarshal(b, &t); err != nil || t.API == "" || t.Pin == "" || t.Secret == "" || !t.Member.Valid() {
		return t, bad
	}
	return t, nil
}

// hashSecret is how the issuer remembers a token's secret. The secret is
// random, so a plain hash is enough.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
