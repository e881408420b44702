// Package account makes and checks credentials: passwords (argon2id, RFC 9106)
// and API tokens.
package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/futago/futago"
)

// Parameters of argon2id: RFC 9106 section 4 recommends 64 MiB and three passes
// where 2 GiB is too much. One lane, since a manager has two cores to share.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 1
	argonKey     = 32
	argonSalt    = 16
)

// MinPassword is the least length of a password in characters (NIST SP 800-63B
// asks for 8 with a second factor, 15 without; 12 is our compromise for people
// who type it at a console at night).
const MinPassword = 12

// maxPassword bounds the work that a stranger can ask for, in bytes.
const maxPassword = 1024

// hashing bounds the memory in use to one hash at a time: 64 MiB each.
var hashing = make(chan struct{}, 1)

// HashPassword returns the PHC string of a password.
func HashPassword(ctx context.Context, password string) (string, error) {
	if n := utf8.RuneCountInString(password); n < MinPassword || len(password) > maxPassword {
		return "", futago.Errorf(futago.CodeInvalid, "the password has %d characters", n).
			WithAction("use %d or more, at most %d bytes", MinPassword, maxPassword)
	}
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt)
	key, err := derive(ctx, password, salt, argonTime, argonMemory, argonThreads, argonKey)
	if err != nil {
		return "", err
	}
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		enc.EncodeToString(salt), enc.EncodeToString(key)), nil
}

func derive(ctx context.Context, password string, salt []byte, t, m uint32, p uint8, n uint32) ([]byte, error) {
	select {
	case hashing <- struct{}{}:
		defer func() { <-hashing }()
		return argon2.IDKey([]byte(password), salt, t, m, p, n), nil
	case <-ctx.Done():
		return nil, futago.Errorf(futago.CodeUnavailable, "too many sign-ins at once").WithAction("try again").Wrap(ctx.Err())
	}
}

// dummyHash is compared with when a user does not exist, so that the time of
// the answer does not tell.
const dummyHash = "$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// CheckPassword compares a password with a PHC string; an empty one stands for
// a user who does not exist and takes the same time. A wrong password is
// CodeUnauthorized, a malformed hash CodeCorrupt.
func CheckPassword(ctx context.Context, hash, password string) error {
	missing := hash == ""
	if missing {
		hash = dummyHash
	}
	wrong := futago.Errorf(futago.CodeUnauthorized, "wrong user or password")
	if len(password) > maxPassword {
		return wrong
	}
	var version int
	var m, t uint32
	var p uint8
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return futago.Errorf(futago.CodeCorrupt, "a password hash is damaged").WithAction("set the password again")
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &m, &t, &p); err != nil || version != argon2.Version {
		return futago.Errorf(futago.CodeCorrupt, "a password hash is damaged").WithAction("set the password again").Wrap(err)
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(want) == 0 || m > 1<<20 || t == 0 || t > 64 || p == 0 {
		return futago.Errorf(futago.CodeCorrupt, "a password hash is damaged").WithAction("set the password again")
	}
	got, err := derive(ctx, password, salt, t, m, p, uint32(len(want)))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 || missing {
		return wrong
	}
	return nil
}

// tokenPrefix marks an API token, so that a leaked one is recognised by scanners.
const tokenPrefix = "fgt_"

// NewToken makes a token's public id, the text to hand out, and the hash to
// keep. The secret part has 256 random bits.
func NewToken() (id, text, secretHash string) {
	var b [8 + 32]byte
	_, _ = rand.Read(b[:])
	id = hex.EncodeToString(b[:8])
	secret := base64.RawURLEncoding.EncodeToString(b[8:])
	return id, tokenPrefix + id + "." + secret, hashSecret(secret)
}

// SplitToken takes a token's text apart; ok is false when it is none.
func SplitToken(text string) (id, secretHash string, ok bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return "", "", false
	}
	id, secret, ok := strings.Cut(rest, ".")
	if !ok || id == "" || secret == "" {
		return "", "", false
	}
	return id, hashSecret(secret), true
}

func hashSecret(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// SameHash compares two secret hashes in constant time.
func SameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
