package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/futago/futago"
	"github.com/futago/futago/account"
)

const tokensPath = "/api/v1/tokens"

// TokenView is a token without the hash of its secret.
type TokenView struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Role      futago.Role `json:"role"`
	CreatedBy string      `json:"created_by"`
	CreatedAt time.Time   `json:"created_at,omitzero"`
	ExpiresAt time.Time   `json:"expires_at,omitzero"`
}

// NewToken is the body that makes an API token.
type NewToken struct {
	Name      string          `json:"name" minLength:"1" maxLength:"64" pattern:"^[^\\x00-\\x1f\\x7f]+$" patternDescription:"printable" doc:"What it is for."`
	Role      futago.Role     `json:"role"`
	ExpiresIn futago.Duration `json:"expires_in,omitempty" doc:"How long it is good for; without end when left out."`
}

// CreatedToken is the answer; the token itself is shown only here.
type CreatedToken struct {
	ID        string    `json:"id"`
	Token     string    `json:"token" doc:"Send it as Authorization: Bearer."`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// NewJoinToken is the body that issues a join token.
type NewJoinToken struct {
	Member futago.MemberID `json:"member" doc:"Which member joins."`
	Valid  futago.Duration `json:"valid,omitempty" doc:"How long the token is good for: 1m to 168h, an hour when left out."`
}

// JoinToken is a one-time token for futago join.
type JoinToken struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Bounds of a join token's life.
const (
	joinDefault = time.Hour
	joinMin     = time.Minute
	joinMax     = 7 * 24 * time.Hour
)

func (a *API) tokenOperations(api huma.API) {
	tags := []string{"accounts"}
	read(a, api, huma.Operation{
		OperationID: "list-tokens", Path: tokensPath, Tags: tags, Summary: "API tokens", Description: "All tokens, without their secrets.",
	}, futago.RoleAdmin, func(ctx context.Context, in *struct{ Consistent }) (*body[[]TokenView], error) {
		if err := a.verify(ctx, in.Consistent); err != nil {
			return nil, err
		}
		ts, err := a.o.Backend.Tokens(ctx)
		out := make([]TokenView, len(ts))
		for i, t := range ts {
			out[i] = TokenView{ID: t.ID, Name: t.Name, Role: t.Role, CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt}
		}
		return &body[[]TokenView]{out}, err
	})
	change(a, api, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: tokensPath, Tags: tags, Summary: "Make an API token", DefaultStatus: http.StatusCreated,
		Description: "The token is shown once.",
	}, futago.RoleAdmin, a.createToken)
	change(a, api, huma.Operation{
		OperationID: "delete-token", Method: http.MethodDelete, Path: tokensPath + "/{id}", Tags: tags, Summary: "Remove an API token",
		Description: "It is refused from then on, and its live streams end within seconds.",
	}, futago.RoleAdmin, func(ctx context.Context, who Actor, in *struct {
		ID string `path:"id" maxLength:"64"`
	},
	) (*nothing, error) {
		return nil, a.o.Backend.DeleteToken(ctx, who, in.ID)
	})
	op := huma.Operation{
		OperationID: "create-join-token", Method: http.MethodPost, Path: "/api/v1/join-tokens", Tags: []string{"cluster"}, Summary: "Let a member join",
		Description: "A one-time token for futago join, good at the manager that issued it, standby or not.", DefaultStatus: http.StatusCreated,
	}
	errorsOf(&op, http.StatusConflict)
	register(a, api, op, futago.RoleAdmin, a.createJoinToken)
}

func (a *API) createToken(ctx context.Context, who Actor, in *struct{ Body NewToken }) (*body[CreatedToken], error) {
	id, secret, hash := account.NewToken()
	if keyed(ctx) {
		// The repetition of a request must hand out the token that the first one
		// recorded, which it may have lost with its answer.
		id, secret, hash = a.deriveToken(who)
	}
	t := futago.Token{ID: id, Name: in.Body.Name, Role: in.Body.Role, SecretHash: hash}
	switch d := in.Body.ExpiresIn.D(); {
	case d < 0:
		return nil, futago.Errorf(futago.CodeInvalid, "body.expires_in: %s is over already", d).WithAction("use a positive duration, like 720h")
	case d > 0:
		t.ExpiresAt = a.o.Now().Add(d).UTC().Truncate(time.Second)
	}
	if err := a.o.Backend.PutToken(ctx, who, t); err != nil {
		return nil, err
	}
	return &body[CreatedToken]{CreatedToken{ID: id, Token: secret, ExpiresAt: t.ExpiresAt}}, nil
}

// deriveToken makes a token of a proposal id under the cluster's key: the same
// on both managers, and as good as random to everybody else.
func (a *API) deriveToken(who Actor) (id, token, hash string) {
	part := func(name string) []byte {
		mac := hmac.New(sha256.New, a.o.SessionKey[:])
		writeFramed(mac, name)
		writeFramed(mac, string(who.Proposal[:]))
		return mac.Sum(nil)
	}
	token = "fgt_" + hex.EncodeToString(part("token id")[:8]) + "." + base64.RawURLEncoding.EncodeToString(part("token secret"))
	id, hash, _ = account.SplitToken(token) // it has the form of one
	return id, token, hash
}

func (a *API) createJoinToken(ctx context.Context, in *struct{ Body NewJoinToken }) (*body[JoinToken], error) {
	valid := in.Body.Valid.D()
	if valid == 0 {
		valid = joinDefault
	}
	if valid < joinMin || valid > joinMax {
		return nil, futago.Errorf(futago.CodeInvalid, "body.valid: %s is out of range", valid).WithAction("use %s to %s", joinMin, joinMax)
	}
	token, err := a.o.Backend.IssueJoinToken(ctx, in.Body.Member, valid)
	return &body[JoinToken]{JoinToken{Token: token, ExpiresAt: a.o.Now().Add(valid).UTC()}}, err
}
