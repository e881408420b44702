package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/futago/futago"
)

// roleExtension tells the role that an operation needs, in the document.
const roleExtension = "x-futago-role"

// document is the OpenAPI description, made once.
type document struct{ json, yaml []byte }

func (d document) serveJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(d.json) // the client is gone if this fails
}

func (d document) serveYAML(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+yaml")
	_, _ = w.Write(d.yaml) // the client is gone if this fails
}

// describe makes the document from the operations that a registers.
func describe(a *API) (d document, err error) {
	api := humachi.New(chi.NewRouter(), humaConfig())
	a.operations(api)
	doc := api.OpenAPI()
	// The framework documents its own error type, which never leaves (fromHuma).
	delete(doc.Components.Schemas.Map(), "ErrorModel")
	delete(doc.Components.Schemas.Map(), "ErrorDetail")
	open(doc)
	if d.json, err = json.MarshalIndent(doc, "", "  "); err != nil {
		return d, fmt.Errorf("describe the API: %w", err)
	}
	if d.yaml, err = doc.YAML(); err != nil {
		return d, fmt.Errorf("describe the API: %w", err)
	}
	return d, nil
}

// open lets answers grow: only what a request may hold is closed against unknown
// members.
func open(doc *huma.OpenAPI) {
	schemas := doc.Components.Schemas
	requested := map[string]bool{}
	var visit func(*huma.Schema)
	visit = func(s *huma.Schema) {
		if s == nil {
			return
		}
		if s.Ref != "" {
			if requested[s.Ref] {
				return
			}
			requested[s.Ref] = true
			visit(schemas.SchemaFromRef(s.Ref))
			return
		}
		visit(s.Items)
		for _, p := range s.Properties {
			visit(p)
		}
		if more, ok := s.AdditionalProperties.(*huma.Schema); ok {
			visit(more)
		}
	}
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Post, item.Put} {
			if op == nil || op.RequestBody == nil {
				continue
			}
			for _, m := range op.RequestBody.Content {
				visit(m.Schema)
			}
		}
	}
	for name, s := range schemas.Map() {
		if closed, ok := s.AdditionalProperties.(bool); ok && !closed && !requested["#/components/schemas/"+name] {
			s.AdditionalProperties = nil
		}
	}
}

// humaConfig is the framework's set-up, without its routes for documents (they
// load scripts from other hosts) and its links in each answer.
func humaConfig() huma.Config {
	cfg := huma.DefaultConfig("Futago", "1")
	cfg.Info.Description = "Two managers that lose no trap. A standby serves reads; a change that it gets is refused with 421 and the leader's address. " +
		"Repeat a change whose outcome is unknown (504) with the same Idempotency-Key. Errors are problem documents (RFC 9457)."
	cfg.Info.License = nil
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.CreateHooks = nil
	cfg.Transformers = []huma.Transformer{fromHuma}
	cfg.RejectUnknownQueryParameters = true
	cfg.Servers = []*huma.Server{{URL: "/"}}
	cfg.Tags = []*huma.Tag{
		{Name: "status"}, {Name: "events"}, {Name: "settings"}, {Name: "accounts"}, {Name: "cluster"},
	}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":    {Type: "http", Scheme: "bearer", Description: "API token (futago token create)."},
		"password": {Type: "http", Scheme: "basic", Description: "User and password."},
		"session":  {Type: "apiKey", In: "cookie", Name: cookieName, Description: "Session of the console."},
	}
	cfg.Security = []map[string][]string{{"token": {}}, {"password": {}}, {"session": {}}}
	reg := cfg.Components.Schemas
	for t, alias := range aliases {
		reg.RegisterTypeAlias(t, alias)
	}
	cfg.Components.Responses = map[string]*huma.Response{
		"Problem": {
			Description: "What went wrong, and what to do.",
			Content:     map[string]*huma.MediaType{problemType: {Schema: reg.Schema(reflect.TypeFor[Problem](), true, "Problem")}},
		},
	}
	return cfg
}

// errorsOf names the statuses of problems that an operation may answer with.
func errorsOf(op *huma.Operation, codes ...int) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	for _, c := range codes {
		op.Responses[strconv.Itoa(c)] = &huma.Response{Ref: "#/components/responses/Problem"}
	}
}

// body wraps a value as the framework's output.
type body[T any] struct {
	Body T
}

// nothing is the output of operations that answer 204.
type nothing struct{}

// read registers an operation that changes nothing.
func read[I, O any](a *API, api huma.API, op huma.Operation, role futago.Role, f func(context.Context, *I) (*O, error)) {
	op.Method = http.MethodGet
	register(a, api, op, role, f)
}

// register adds an operation that needs a role. The role is judged before the
// request is looked at any further.
func register[I, O any](a *API, api huma.API, op huma.Operation, role futago.Role, f func(context.Context, *I) (*O, error)) {
	op.Description += " Needs the role " + string(role) + "."
	op.Extensions = map[string]any{roleExtension: string(role)}
	errorsOf(&op, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity,
		http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable)
	allow := func(ctx huma.Context, next func(huma.Context)) {
		if err := allows(callerOf(ctx.Context()), role); err != nil {
			a.refuse(ctx, err)
			return
		}
		next(ctx)
	}
	op.Middlewares = append(huma.Middlewares{allow}, op.Middlewares...)
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		ctx, cancel := bounded(ctx, op.Path)
		defer cancel()
		out, err := f(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
}

// bounded limits the work for one request. A stream bounds its own looks.
func bounded(ctx context.Context, path string) (context.Context, context.CancelFunc) {
	if path == streamPath {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, requestTimeout)
}

// refuse answers from a middleware of the framework.
func (a *API) refuse(ctx huma.Context, err error) {
	r, w := humachi.Unwrap(ctx)
	writeProblem(w, r, a.problem(ctx.Context(), err))
}
