package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/account"
)

// caller is who makes a request.
type caller struct {
	name  string
	role  futago.Role
	local bool
	uri   string // of the request
	// check tells whether the credentials still hold, for streams that outlive
	// them. Nil for the local operator.
	check func(context.Context) error
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

func withCaller(r *http.Request, c caller) *http.Request {
	c.uri = r.URL.RequestURI()
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}

var localOperator = caller{name: "local operator", role: futago.RoleAdmin, local: true}

// localOnly admits whoever could open the local socket.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, withCaller(r, localOperator))
	})
}

// authenticate admits requests with valid credentials.
func (a *API) authenticate(next http.Handler) http.Handler {
	// Browsers send the cookie along from anywhere; a change must come from
	// our own pages.
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := cross.Check(r); err != nil {
			writeProblem(w, r, a.problem(r.Context(), futago.Errorf(futago.CodeForbidden, "the request comes from another site").Wrap(err)))
			return
		}
		c, err := a.auth.authenticate(r)
		if err != nil {
			a.metrics.refused.WithLabelValues(credentialKind(r)).Inc()
			writeProblem(w, r, a.problem(r.Context(), err))
			return
		}
		next.ServeHTTP(w, withCaller(r, c))
	})
}

// viewer admits callers who may read.
func (a *API) viewer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := allows(callerOf(r.Context()), futago.RoleViewer); err != nil {
			writeProblem(w, r, a.problem(r.Context(), err))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func allows(c caller, want futago.Role) error {
	if c.role.Allows(want) {
		return nil
	}
	return futago.Errorf(futago.CodeForbidden, "%s has the role %s, and this needs %s", c.name, c.role, want).
		WithAction("ask an admin, or use other credentials")
}

func credentialKind(r *http.Request) string {
	switch {
	case r.Header.Get("Authorization") != "":
		scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		switch strings.ToLower(scheme) {
		case "bearer":
			return "token"
		case "basic":
			return "password"
		}
		return "other"
	case r.Header.Get("Cookie") != "":
		return "session"
	}
	return "none"
}

// authenticator checks tokens, passwords and session cookies.
type authenticator struct {
	o        Options
	throttle *throttle
	// known are passwords that were right, by their keyed hash, so that a client
	// which sends one with each request does not cost 64 MiB of hashing each time.
	mu    sync.Mutex
	known map[[32]byte]time.Time
}

const (
	knownFor   = time.Minute
	knownLimit = 1024
	// hashTimeout bounds the wait for a turn at hashing, of which there is one
	// at a time, about ten in a second.
	hashTimeout = 5 * time.Second
)

func newAuthenticator(o Options) *authenticator {
	return &authenticator{o: o, throttle: newThrottle(o.Now), known: map[[32]byte]time.Time{}}
}

func (a *authenticator) authenticate(r *http.Request) (caller, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, rest, _ := strings.Cut(h, " ")
		if strings.EqualFold(scheme, "bearer") {
			return a.token(r.Context(), strings.TrimSpace(rest))
		}
		if name, password, ok := r.BasicAuth(); ok {
			return a.basic(r, name, password)
		}
		return caller{}, futago.Errorf(futago.CodeUnauthorized, "the Authorization header is of no known scheme").
			WithAction("send Authorization: Bearer TOKEN, or Basic with user and password")
	}
	if c, err := r.Cookie(cookieName); err == nil {
		return a.session(r.Context(), c.Value)
	}
	return caller{}, futago.Errorf(futago.CodeUnauthorized, "no credentials").
		WithAction("send a token (Authorization: Bearer …, from futago token create) or a password")
}

func (a *authenticator) token(ctx context.Context, text string) (caller, error) {
	bad := futago.Errorf(futago.CodeUnauthorized, "the token is not valid").WithAction("make one with futago token create")
	id, hash, ok := account.SplitToken(text)
	if !ok {
		return caller{}, bad
	}
	find := func(ctx context.Context) (futago.Token, error) {
		t, err := a.o.Backend.Token(ctx, id)
		if futago.CodeOf(err) == futago.CodeNotFound {
			return t, bad
		}
		if err != nil {
			return t, err
		}
		if !account.SameHash(t.SecretHash, hash) || (!t.ExpiresAt.IsZero() && !a.o.Now().Before(t.ExpiresAt)) {
			return t, bad
		}
		return t, nil
	}
	t, err := find(ctx)
	if err != nil {
		return caller{}, err
	}
	return caller{name: "token " + t.Name, role: t.Role, check: func(ctx context.Context) error {
		_, err := find(ctx)
		return err
	}}, nil
}

// user is the user behind a name; an unknown name is a user without a password.
func (a *authenticator) user(ctx context.Context, name string) (futago.User, error) {
	u, err := a.o.Backend.User(ctx, name)
	if futago.CodeOf(err) == futago.CodeNotFound {
		return futago.User{}, nil
	}
	return u, err
}

// unchanged is the check of a caller who gave u's password.
func (a *authenticator) unchanged(u futago.User) func(context.Context) error {
	return func(ctx context.Context) error {
		now, err := a.user(ctx, u.Name)
		if err == nil && now.PasswordHash != u.PasswordHash {
			return futago.Errorf(futago.CodeUnauthorized, "the password was changed or the user removed").WithAction("sign in again")
		}
		return err
	}
}

func (a *authenticator) basic(r *http.Request, name, password string) (caller, error) {
	u, err := a.password(r, name, password)
	if err != nil {
		return caller{}, err
	}
	return caller{name: u.Name, role: u.Role, check: a.unchanged(u)}, nil
}

// password checks a name and a password. That a name does not exist shows
// neither in the answer nor in its time.
func (a *authenticator) password(r *http.Request, name, password string) (futago.User, error) {
	u, err := a.user(r.Context(), name)
	if err != nil {
		return futago.User{}, err
	}
	mac := hmac.New(sha256.New, a.o.SessionKey[:])
	for _, s := range []string{"known password", u.PasswordHash, name, password} {
		writeFramed(mac, s)
	}
	sum := [32]byte(mac.Sum(nil))
	if a.recall(sum) {
		return u, nil
	}
	end, err := a.throttle.begin(r.RemoteAddr)
	if err != nil {
		return futago.User{}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), hashTimeout)
	defer cancel()
	err = account.CheckPassword(ctx, u.PasswordHash, password)
	end(futago.CodeOf(err) == futago.CodeUnauthorized)
	if err != nil {
		return futago.User{}, err
	}
	a.remember(sum)
	return u, nil
}

func (a *authenticator) recall(sum [32]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.o.Now().Before(a.known[sum])
}

func (a *authenticator) remember(sum [32]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= knownLimit {
		clear(a.known)
	}
	a.known[sum] = a.o.Now().Add(knownFor)
}
