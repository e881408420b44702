package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/futago/futago"
)

// Session cookies of the console. The prefix makes browsers refuse one that did
// not come over HTTPS from this very host (RFC 6265bis, 4.1.3.2).
const (
	cookieName = "__Host-futago"
	sessionFor = 12 * time.Hour
)

// A session is "name|end|mac": signed with the cluster's key and the user's
// present password hash, so that a new password ends it on both managers, and
// nothing is kept on the server.
func (a *authenticator) session(ctx context.Context, value string) (caller, error) {
	bad := futago.Errorf(futago.CodeUnauthorized, "the session has ended").WithAction("sign in again")
	parts := strings.Split(value, "|")
	if len(parts) != 3 {
		return caller{}, bad
	}
	name, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return caller{}, bad
	}
	end, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || a.o.Now().Unix() >= end {
		return caller{}, bad
	}
	u, err := a.user(ctx, string(name))
	if err != nil {
		return caller{}, err
	}
	if u.PasswordHash == "" || !hmac.Equal([]byte(parts[2]), []byte(a.sign(u, end))) {
		return caller{}, bad
	}
	unchanged := a.unchanged(u)
	return caller{name: u.Name, role: u.Role, check: func(ctx context.Context) error {
		if a.o.Now().Unix() >= end {
			return bad
		}
		return unchanged(ctx)
	}}, nil
}

func (a *authenticator) sign(u futago.User, end int64) string {
	mac := hmac.New(sha256.New, a.o.SessionKey[:])
	for _, s := range []string{"session", u.Name, strconv.FormatInt(end, 10), u.PasswordHash} {
		writeFramed(mac, s)
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// writeFramed hashes a part with its length, so that no two lists of parts meet.
func writeFramed(h hash.Hash, s string) {
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
	h.Write([]byte(s))
}

// signIn checks a password and sets the session cookie.
func (a *authenticator) signIn(w http.ResponseWriter, r *http.Request, name, password string) error {
	u, err := a.password(r, name, password)
	if err != nil {
		return err
	}
	end := a.o.Now().Add(sessionFor)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: int(sessionFor / time.Second),
		Value: base64.RawURLEncoding.EncodeToString([]byte(u.Name)) + "|" + strconv.FormatInt(end.Unix(), 10) + "|" + a.sign(u, end.Unix()),
	})
	return nil
}

func (a *authenticator) signOut(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: -1})
}
