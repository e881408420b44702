package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestDocument keeps the description of the API as a file, so that a change of
// the API is seen in review.
func TestDocument(t *testing.T) {
	s := newServer(t)
	got := s.do(t, request{path: "/openapi.yaml"}) // no credentials needed
	wantStatus(t, got, http.StatusOK)
	const golden = "testdata/openapi.yaml"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got.body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got.body)); diff != "" {
		t.Errorf("the API has changed; look at it, then go test ./httpapi -update (-file +API):\n%s", diff)
	}
	if bytes.Contains(got.body, []byte("ErrorModel")) {
		t.Error("the framework's own errors are in the document")
	}
}

// operation is what tests need of one operation of the document.
type operation struct {
	method, path string
	ID           string                     `json:"operationId"`
	Summary      string                     `json:"summary"`
	Role         futago.Role                `json:"x-futago-role"`
	Responses    map[string]json.RawMessage `json:"responses"`
	Parameters   []struct {
		Name string `json:"name"`
	} `json:"parameters"`
}

func (o operation) changes() bool { return o.method != http.MethodGet }

// operations reads them from the document itself, so that a new one is tested
// without anybody's remembering.
func operations(t *testing.T, s *server) []operation {
	t.Helper()
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	a := s.do(t, request{path: "/openapi.json"})
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("openapi %q", doc.OpenAPI)
	}
	var out []operation
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			o := operation{method: strings.ToUpper(method), path: path}
			if err := json.Unmarshal(raw, &o); err != nil {
				t.Fatal(err)
			}
			out = append(out, o)
		}
	}
	if len(out) < 15 {
		t.Fatalf("only %d operations in the document", len(out))
	}
	slices.SortFunc(out, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return out
}

func TestRoles(t *testing.T) {
	s := newServer(t)
	all := []futago.Role{"", futago.RoleViewer, futago.RoleOperator, futago.RoleAdmin}
	for _, o := range operations(t, s) {
		t.Run(o.method+" "+o.path, func(t *testing.T) {
			if !slices.Contains(all[1:], o.Role) {
				t.Fatalf("needs role %q", o.Role)
			}
			if o.changes() && o.Role == futago.RoleViewer {
				t.Error("a viewer may change something")
			}
			path := strings.NewReplacer("{id}", "9", "{name}", "nobody").Replace(o.path)
			for _, role := range all {
				// Nothing is sent that would be valid, so that nothing is changed: the
				// role is judged before the rest of the request.
				got, body := s.status(t, o.method, path, s.tokens[role])
				want := 0
				switch {
				case role == "":
					want = http.StatusUnauthorized
				case !role.Allows(o.Role):
					want = http.StatusForbidden
				}
				switch {
				case want != 0 && got != want:
					t.Errorf("%q: status %d, want %d", role, got, want)
				case want == 0 && (got == http.StatusUnauthorized || got == http.StatusForbidden || got >= 500):
					t.Errorf("%q: status %d", role, got)
				case got >= 400 && !strings.Contains(string(body), `"code"`):
					t.Errorf("%q: status %d without a code: %s", role, got, body)
				}
				if got < 300 && o.path == "/api/v1/switch" {
					s.fake.mu.Lock()
					s.fake.leader = s.fake.member // back again
					s.fake.mu.Unlock()
				}
			}
		})
	}
}

// TestStandbyRefusesChanges asks for each change that the log carries.
func TestStandbyRefusesChanges(t *testing.T) {
	s := newServer(t)
	s.fake.leader = "b"
	for _, o := range operations(t, s) {
		if !o.changes() || o.ID == "create-join-token" {
			continue
		}
		t.Run(o.ID, func(t *testing.T) {
			path := strings.NewReplacer("{id}", "9", "{name}", "mai").Replace(o.path)
			a := s.admin(t, o.method, path, "")
			p := wantProblem(t, a, http.StatusMisdirectedRequest, futago.CodeNotLeader)
			if p.Leader != "b" || p.LeaderAddress != "host-b:7700" || p.Action == "" {
				t.Errorf("got %+v", p)
			}
			if got, want := a.header.Get("Location"), "https://host-b:7700"+path; got != want {
				t.Errorf("location %q, want %q", got, want)
			}
			if _, ok := o.Responses["421"]; !ok {
				t.Error("421 is not in the document")
			}
		})
	}
	if len(s.fake.actors) != 0 {
		t.Errorf("the backend was asked for %d changes", len(s.fake.actors))
	}
	// Reads are served, and joins are this manager's own business.
	wantStatus(t, s.get(t, "/api/v1/events"), http.StatusOK)
	wantStatus(t, s.admin(t, http.MethodPost, "/api/v1/join-tokens", `{"member":"w"}`), http.StatusCreated)
}

func TestJoinPath(t *testing.T) {
	s := newServer(t)
	if a := s.do(t, request{method: http.MethodPost, path: cluster.JoinPath}); string(a.body) != "joined" {
		t.Errorf("got %d %s", a.status, a.body)
	}
}
