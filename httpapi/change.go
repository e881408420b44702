package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
)

const keyHeader = "Idempotency-Key"

// pending is a change whose request is being read.
type pending struct {
	hash hash.Hash // of all that makes the request what it is; nil without a key
}

type pendingKey struct{}

// hashingBody hashes a request's body as it is read.
type hashingBody struct {
	io.ReadCloser
	hash hash.Hash
}

func (b hashingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	return n, err
}

// change registers an operation that changes something through the log.
func change[I, O any](a *API, api huma.API, op huma.Operation, role futago.Role, f func(context.Context, Actor, *I) (*O, error)) {
	op.Description += " A standby refuses it (421)."
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: keyHeader, In: "header", Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{"6f1d0f2c9f5f4a3d8f2a9a4a3a3f0b1c"}},
		Description: "32 hexadecimal digits or a UUID, made anew for each change. A repetition of the request with the same key takes effect at most once. It is remembered for a day.",
	})
	errorsOf(&op, http.StatusNotFound, http.StatusConflict, http.StatusMisdirectedRequest, http.StatusGatewayTimeout, http.StatusInsufficientStorage)
	op.Middlewares = append(huma.Middlewares{a.prepare}, op.Middlewares...)
	register(a, api, op, role, func(ctx context.Context, in *I) (*O, error) {
		return f(ctx, a.actor(ctx), in)
	})
}

// prepare refuses a change early where it cannot be made, before its password
// costs anything, and takes its idempotency key.
func (a *API) prepare(ctx huma.Context, next func(huma.Context)) {
	c := callerOf(ctx.Context())
	if err := a.leads(c); err != nil {
		a.refuse(ctx, err)
		return
	}
	p := &pending{}
	if key := ctx.Header(keyHeader); key != "" {
		raw, err := hex.DecodeString(strings.ReplaceAll(key, "-", ""))
		if err != nil || len(raw) != len(command.ID{}) {
			a.refuse(ctx, futago.Errorf(futago.CodeInvalid, "header.%s: %q is no key", keyHeader, key).
				WithAction("send 32 hexadecimal digits or a UUID, made at random for each change"))
			return
		}
		p.hash = hmac.New(sha256.New, a.o.SessionKey[:])
		r, _ := humachi.Unwrap(ctx)
		for _, s := range []string{"idempotency key", string(raw), c.name, r.Method, r.URL.Path} {
			writeFramed(p.hash, s)
		}
		r.Body = hashingBody{r.Body, p.hash}
	}
	next(huma.WithValue(ctx, pendingKey{}, p))
}

// leads refuses what a standby would refuse anyway. The local operator's
// changes are forwarded by the manager.
func (a *API) leads(c caller) error {
	leader, address := a.o.Backend.Leader()
	if c.local || leader == "" || leader == a.o.Backend.Member() {
		return nil
	}
	e := futago.Errorf(futago.CodeNotLeader, "manager %s is the standby", a.o.Backend.Member()).
		WithAction("send the change to manager %s at %s", leader, address)
	e.Leader = leader
	return e
}

// actor is who makes the change, with the proposal id. From a key, the id is
// derived together with the whole request, so that the same key under another
// request is another change and not a silent nothing.
func (a *API) actor(ctx context.Context) Actor {
	c := callerOf(ctx)
	actor := Actor{Name: c.name, Local: c.local}
	if p, ok := ctx.Value(pendingKey{}).(*pending); ok && p.hash != nil {
		actor.Proposal = command.ID(p.hash.Sum(nil)[:len(actor.Proposal)])
		return actor
	}
	_, _ = rand.Read(actor.Proposal[:]) // never fails
	return actor
}

// keyed reports whether the client can repeat the change that ctx belongs to.
func keyed(ctx context.Context) bool {
	p, ok := ctx.Value(pendingKey{}).(*pending)
	return ok && p.hash != nil
}
