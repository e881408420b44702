package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/futago/futago"
	"github.com/futago/futago/account"
)

const usersPath = "/api/v1/users"

// UserView is a user without the hash of the password.
type UserView struct {
	Name      string      `json:"name"`
	Role      futago.Role `json:"role"`
	CreatedAt time.Time   `json:"created_at,omitzero" doc:"When it was made or last changed."`
}

// NewUser is the body that makes a user.
type NewUser struct {
	Name     string      `json:"name" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9][A-Za-z0-9._@-]*$" patternDescription:"letters, digits and . _ @ -, a letter or digit first"`
	Role     futago.Role `json:"role"`
	Password string      `json:"password" minLength:"12" maxLength:"1024" format:"password" writeOnly:"true"`
}

// UserChange is the body that changes a user; what is left out stays.
type UserChange struct {
	Role     futago.Role `json:"role,omitempty"`
	Password string      `json:"password,omitempty" minLength:"12" maxLength:"1024" format:"password" writeOnly:"true"`
}

func (a *API) userOperations(api huma.API) {
	tags := []string{"accounts"}
	read(a, api, huma.Operation{
		OperationID: "list-users", Path: usersPath, Tags: tags, Summary: "Users", Description: "All users, without passwords.",
	}, futago.RoleAdmin, func(ctx context.Context, in *struct{ Consistent }) (*body[[]UserView], error) {
		if err := a.verify(ctx, in.Consistent); err != nil {
			return nil, err
		}
		us, err := a.o.Backend.Users(ctx)
		out := make([]UserView, len(us))
		for i, u := range us {
			out[i] = viewOf(u)
		}
		return &body[[]UserView]{out}, err
	})
	type created struct {
		Location string `header:"Location"`
		Body     UserView
	}
	change(a, api, huma.Operation{
		OperationID: "create-user", Method: http.MethodPost, Path: usersPath, Tags: tags, Summary: "Make a user", DefaultStatus: http.StatusCreated,
		Description: "The name must be new.",
	}, futago.RoleAdmin, func(ctx context.Context, who Actor, in *struct{ Body NewUser }) (*created, error) {
		hash, err := hashPassword(ctx, in.Body.Password)
		if err != nil {
			return nil, err
		}
		u := futago.User{Name: in.Body.Name, Role: in.Body.Role, PasswordHash: hash}
		if err := a.o.Backend.PutUser(ctx, who, u, true); err != nil {
			return nil, err
		}
		return &created{Location: usersPath + "/" + url.PathEscape(u.Name), Body: viewOf(u)}, nil
	})
	type changeInput struct {
		Name string `path:"name" maxLength:"64"`
		Body UserChange
	}
	change(a, api, huma.Operation{
		OperationID: "change-user", Method: http.MethodPut, Path: usersPath + "/{name}", Tags: tags, Summary: "Change a user's role or password",
		Description: "A new password ends the user's sessions.",
	}, futago.RoleAdmin, func(ctx context.Context, who Actor, in *changeInput) (*body[UserView], error) {
		u, err := a.o.Backend.User(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		if in.Body == (UserChange{}) {
			return nil, futago.Errorf(futago.CodeInvalid, "body: neither role nor password is given").WithAction("send what is to change")
		}
		if in.Body.Role != "" {
			u.Role = in.Body.Role
		}
		if in.Body.Password != "" {
			if u.PasswordHash, err = hashPassword(ctx, in.Body.Password); err != nil {
				return nil, err
			}
		}
		return &body[UserView]{viewOf(u)}, a.o.Backend.PutUser(ctx, who, u, false)
	})
	change(a, api, huma.Operation{
		OperationID: "delete-user", Method: http.MethodDelete, Path: usersPath + "/{name}", Tags: tags, Summary: "Remove a user",
		Description: "The last admin cannot be removed.",
	}, futago.RoleAdmin, func(ctx context.Context, who Actor, in *struct {
		Name string `path:"name" maxLength:"64"`
	},
	) (*nothing, error) {
		return nil, a.o.Backend.DeleteUser(ctx, who, in.Name)
	})
}

func viewOf(u futago.User) UserView {
	return UserView{Name: u.Name, Role: u.Role, CreatedAt: u.CreatedAt}
}

// hashPassword waits for its turn no longer than a client would.
func hashPassword(ctx context.Context, password string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, hashTimeout)
	defer cancel()
	h, err := account.HashPassword(ctx, password)
	if futago.CodeOf(err) == futago.CodeInvalid {
		err = invalid("body.password", err)
	}
	return h, err
}
