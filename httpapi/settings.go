package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/futago/futago"
)

const settingsPath = "/api/v1/settings/intake"

func (a *API) settingsOperations(api huma.API) {
	read(a, api, huma.Operation{
		OperationID: "get-intake-settings", Path: settingsPath, Tags: []string{"settings"}, Summary: "Settings of trap intake",
		Description: "Secrets are shown as " + futago.Masked + ".",
	}, futago.RoleViewer, func(ctx context.Context, in *struct{ Consistent }) (*body[futago.IntakeSettings], error) {
		if err := a.verify(ctx, in.Consistent); err != nil {
			return nil, err
		}
		s, err := a.o.Backend.IntakeSettings(ctx)
		return &body[futago.IntakeSettings]{masked(s)}, err
	})
	type input struct {
		Body futago.IntakeSettings
	}
	change(a, api, huma.Operation{
		OperationID: "put-intake-settings", Method: http.MethodPut, Path: settingsPath, Tags: []string{"settings"}, Summary: "Replace the settings of trap intake",
		Description: "The revision is that of the settings which the change was made from: when others changed them since, the answer is 409. Secrets that come back masked stay as they are.",
	}, futago.RoleOperator, func(ctx context.Context, who Actor, in *input) (*body[futago.IntakeSettings], error) {
		if err := a.checkSecrets(ctx, in.Body); err != nil {
			return nil, err
		}
		s, err := a.o.Backend.PutIntakeSettings(ctx, who, in.Body)
		if e, ok := errors.AsType[*futago.Error](err); ok && e.Code == futago.CodeConflict {
			return nil, futago.Errorf(futago.CodeConflict, "others changed the settings since revision %d", in.Body.Revision).
				WithAction("read them again (GET %s), make your change there, and send that", settingsPath).Wrap(err)
		}
		return &body[futago.IntakeSettings]{masked(s)}, err
	})
}

// masked hides the secrets. Sealed ones are of no use without the cluster's
// key, and yet nobody's business.
func masked(s futago.IntakeSettings) futago.IntakeSettings {
	s.SNMPUsers = slices.Clone(s.SNMPUsers)
	for i := range s.SNMPUsers {
		u := &s.SNMPUsers[i]
		for _, p := range []*futago.Secret{&u.AuthPass, &u.PrivPass} {
			if *p != "" {
				*p = futago.Masked
			}
		}
	}
	return s
}

// checkSecrets refuses what the present settings cannot fill in: a masked
// secret of a user that has none, and ciphertext, which may be another
// cluster's.
func (a *API) checkSecrets(ctx context.Context, s futago.IntakeSettings) error {
	present, err := a.o.Backend.IntakeSettings(ctx)
	if err != nil {
		return err
	}
	if present.Revision != s.Revision {
		return nil // the conflict is told first
	}
	old := map[string]futago.SNMPUser{}
	for _, u := range present.SNMPUsers {
		old[u.Name] = u
	}
	for i, u := range s.SNMPUsers {
		for _, p := range []struct {
			field     string
			new, kept futago.Secret
		}{{"auth_pass", u.AuthPass, old[u.Name].AuthPass}, {"priv_pass", u.PrivPass, old[u.Name].PrivPass}} {
			switch {
			case p.new.Sealed():
				return futago.Errorf(futago.CodeInvalid, "body.snmp_users[%d].%s: begins with %q", i, p.field, futago.SealedPrefix).
					WithAction("send the passphrase itself")
			case p.new.Reveal() == futago.Masked && p.kept == "":
				return futago.Errorf(futago.CodeInvalid, "body.snmp_users[%d].%s: is masked, and user %q has no such passphrase", i, p.field, u.Name).
					WithAction("send the passphrase itself; it does not move with a new name")
			}
		}
	}
	return nil
}
