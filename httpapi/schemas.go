package httpapi

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/futago/futago"
)

// aliases give the domain's types their schemas; the domain itself knows
// nothing of OpenAPI.
var aliases = map[reflect.Type]reflect.Type{
	reflect.TypeFor[futago.Kind]():      reflect.TypeFor[kindSchema](),
	reflect.TypeFor[futago.Severity]():  reflect.TypeFor[severitySchema](),
	reflect.TypeFor[futago.Transport](): reflect.TypeFor[transportSchema](),
	reflect.TypeFor[futago.Reason]():    reflect.TypeFor[reasonSchema](),
	reflect.TypeFor[futago.Key]():       reflect.TypeFor[keySchema](),
	reflect.TypeFor[futago.Duration]():  reflect.TypeFor[durationSchema](),
	reflect.TypeFor[futago.Secret]():    reflect.TypeFor[secretSchema](),
	reflect.TypeFor[futago.Role]():      reflect.TypeFor[roleSchema](),
	reflect.TypeFor[futago.MemberID]():  reflect.TypeFor[memberSchema](),

	// A list of bytes would pass for base64.
	reflect.TypeFor[[]futago.Kind]():     reflect.TypeFor[[]kindSchema](),
	reflect.TypeFor[futago.Redundancy](): reflect.TypeFor[redundancySchema](),
}

type (
	kindSchema      struct{}
	severitySchema  struct{}
	transportSchema struct{}
	reasonSchema    struct{}
	keySchema       struct{}
	durationSchema  struct{}
	secretSchema    struct{}
	roleSchema      struct{}
	memberSchema    struct{}

	redundancySchema struct{}
)

func text(description string, values ...any) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: description, Enum: values}
}

// Schema implements [huma.SchemaProvider].
func (kindSchema) Schema(huma.Registry) *huma.Schema {
	return text("Sort of trap.", "syslog", "snmptrap", "customtrap", "internal")
}

// Schema implements [huma.SchemaProvider].
func (severitySchema) Schema(huma.Registry) *huma.Schema {
	return text("Severity of RFC 5424, the most severe first.", "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
}

// Schema implements [huma.SchemaProvider].
func (transportSchema) Schema(huma.Registry) *huma.Schema {
	return text("How it came in.", "udp", "tcp", "tls", "http", "https", "internal")
}

// Schema implements [huma.SchemaProvider].
func (reasonSchema) Schema(huma.Registry) *huma.Schema {
	return text("Why the last copy was judged as it was.", "first", "paired", "repeat", "window", "internal")
}

// Schema implements [huma.SchemaProvider].
func (keySchema) Schema(huma.Registry) *huma.Schema {
	s := text("Identity of the trap, 128 bits in hexadecimal.")
	s.Pattern = "^[0-9a-f]{32}$"
	return s
}

// Schema implements [huma.SchemaProvider].
func (durationSchema) Schema(huma.Registry) *huma.Schema {
	s := text("A duration: 500ms, 30s, 1h30m.")
	s.Examples = []any{"30s"}
	s.Pattern = `^-?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$`
	s.PatternDescription = "a duration like 500ms, 30s or 10m"
	return s
}

// Schema implements [huma.SchemaProvider].
func (secretSchema) Schema(huma.Registry) *huma.Schema {
	s := text("Shown as " + futago.Masked + "; sent back like that, it stays as it is.")
	s.Format = "password"
	return s
}

// Schema implements [huma.SchemaProvider].
func (roleSchema) Schema(huma.Registry) *huma.Schema {
	return text("Each role includes those below it.", string(futago.RoleAdmin), string(futago.RoleOperator), string(futago.RoleViewer))
}

// Schema implements [huma.SchemaProvider].
func (memberSchema) Schema(huma.Registry) *huma.Schema {
	return text("Member of the cluster: managers a and b, third vote w.", "a", "b", "w")
}

// Schema implements [huma.SchemaProvider].
func (redundancySchema) Schema(huma.Registry) *huma.Schema {
	return text("What the cluster can still survive, the best first.", string(futago.RedundancyFull), string(futago.RedundancySurvivesOne),
		string(futago.RedundancyNoSpare), string(futago.RedundancyStoppedSafe))
}
