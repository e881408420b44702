package register

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/futago/futago"
)

func TestRecord_JSON_RoundTrip(t *testing.T) {
	for _, h := range []Holders{HolderA, HolderB, Both} {
		want := Record{
			Version: 7, Nonce: NewNonce(), Term: 3, VotedFor: futago.MemberB,
			Holders: h, IdentityA: NewIdentity(), IdentityB: NewIdentity(),
		}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Record
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("holders %v (-want +got):\n%s", h, d)
		}
	}
}

func TestRecord_JSON_Text(t *testing.T) {
	r := Record{Version: 1, Nonce: Nonce{1}, Holders: Both, IdentityA: Identity{0xab}}
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"nonce":"01000000000000000000000000000000","term":0,"voted_for":"",` +
		`"holders":"a,b","identity_a":"ab000000000000000000000000000000","identity_b":""}`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

func TestRecord_JSON_Refused(t *testing.T) {
	for _, text := range []string{
		`{"holders":""}`, `{"holders":"b,a"}`, `{"holders":"w"}`, `{"nonce":"12"}`,
		`{"identity_a":"zz000000000000000000000000000000"}`,
	} {
		var r Record
		if err := json.Unmarshal([]byte(text), &r); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

func TestRecord_Validate(t *testing.T) {
	good := Record{
		Version: 1, Nonce: NewNonce(), Term: 1, VotedFor: futago.MemberA,
		Holders: Both, IdentityA: NewIdentity(), IdentityB: NewIdentity(),
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Record){
		"version":  func(r *Record) { r.Version = 0 },
		"nonce":    func(r *Record) { r.Nonce = Nonce{} },
		"vote w":   func(r *Record) { r.VotedFor = futago.MemberW },
		"vote t0":  func(r *Record) { r.Term = 0 },
		"holders":  func(r *Record) { r.Holders = 0 },
		"holders+": func(r *Record) { r.Holders = 4 },
		"identity": func(r *Record) { r.IdentityB = Identity{} },
	} {
		r := good
		change(&r)
		if r.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHolders_Members(t *testing.T) {
	if !Both.Has(futago.MemberA) || !Both.Has(futago.MemberB) || Both.Has(futago.MemberW) {
		t.Error("Both")
	}
	if !HolderA.Only(futago.MemberA) || Both.Only(futago.MemberA) || HolderA.Only(futago.MemberB) || HolderA.Only("") {
		t.Error("Only")
	}
	if got := HolderA.String() + HolderB.String() + Both.String(); got != "{a}{b}{a,b}" {
		t.Error(got)
	}
}

func TestConflictError_Chain(t *testing.T) {
	err := error(&ConflictError{Current: Record{Version: 9}})
	if !errors.Is(err, ErrConflict) {
		t.Error("no ErrConflict in the chain")
	}
}
