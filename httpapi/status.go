package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/futago/futago"
)

// Consistent is the choice of a read.
type Consistent struct {
	Consistency string `query:"consistency" enum:"local,strong" default:"local" doc:"local answers from this manager's database, which on a standby may be a moment behind. strong asks the leader's majority first, so that the answer holds every change that was confirmed before; a standby refuses it."`
}

// verify makes a strong read linearizable.
func (a *API) verify(ctx context.Context, c Consistent) error {
	if c.Consistency != "strong" {
		return nil
	}
	return a.o.Backend.VerifyRead(ctx)
}

// Identity is who asks, as this manager sees it.
type Identity struct {
	Name   string          `json:"name" doc:"User, or token and its name."`
	Role   futago.Role     `json:"role"`
	Local  bool            `json:"local" doc:"At the manager's local socket."`
	Member futago.MemberID `json:"member" doc:"The manager that answers."`
}

func (a *API) statusOperations(api huma.API) {
	read(a, api, huma.Operation{
		OperationID: "status", Path: "/api/v1/status", Tags: []string{"status"}, Summary: "What the cluster can still survive",
		Description: "The state of all members as this manager sees it; it asks them, within about a second.",
	}, futago.RoleViewer, func(ctx context.Context, _ *struct{}) (*body[futago.ClusterStatus], error) {
		s, err := a.o.Backend.Status(ctx)
		return &body[futago.ClusterStatus]{s}, err
	})
	read(a, api, huma.Operation{
		OperationID: "whoami", Path: "/api/v1/whoami", Tags: []string{"accounts"}, Summary: "Who asks",
		Description: "The caller and its role.",
	}, futago.RoleViewer, func(ctx context.Context, _ *struct{}) (*body[Identity], error) {
		c := callerOf(ctx)
		return &body[Identity]{Identity{Name: c.name, Role: c.role, Local: c.local, Member: a.o.Backend.Member()}}, nil
	})
	change(a, api, huma.Operation{
		OperationID: "switch", Method: http.MethodPost, Path: "/api/v1/switch", Tags: []string{"cluster"}, Summary: "Hand leadership over",
		Description: "The other manager leads afterwards. It is refused when that one is not in step.",
	}, futago.RoleAdmin, func(ctx context.Context, who Actor, _ *struct{}) (*nothing, error) {
		return nil, a.o.Backend.SwitchLeader(ctx, who)
	})
}
