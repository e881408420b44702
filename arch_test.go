package futago_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/futago/futago"

// rules say what a package and everything below it must not depend on,
// directly or not. They keep data flowing one way.
var rules = []struct {
	pkg  string
	deny []string
	why  string
}{
	{module, []string{"*/*"}, "the domain's words import the standard library alone"},
	{module + "/httpapi", []string{"github.com/hashicorp/raft", "modernc.org/sqlite", module + "/store", module + "/raftfsm"}, "the API knows neither Raft nor SQL"},
	{module + "/store", []string{"github.com/hashicorp/raft", module + "/httpapi", module + "/intake"}, "the store knows no Raft"},
	{module + "/raftfsm/dedup", []string{"github.com/hashicorp/raft", "modernc.org/sqlite", module + "/store"}, "the judgement is pure"},
	{module + "/raftfsm/machine", []string{"github.com/hashicorp/raft", module + "/httpapi", module + "/intake"}, "apply knows entries and the store"},
	{module + "/raftfsm/thirdvote/rules", []string{"github.com/hashicorp/raft", "net/http", module + "/store"}, "the rules are pure"},
	{module + "/raftfsm/thirdvote/witness", []string{"github.com/hashicorp/raft", "modernc.org/sqlite"}, "the witness is small"},
	{module + "/intake/spool", []string{"github.com/hashicorp/raft", "modernc.org/sqlite"}, "the spool must outlive the manager"},
	{module + "/intake/udp", []string{"github.com/hashicorp/raft", "modernc.org/sqlite"}, "receivers know the spool at most"},
	{module + "/intake/syslog", []string{"github.com/hashicorp/raft", "modernc.org/sqlite"}, "receivers know the spool at most"},
	{module + "/intake/snmptrap", []string{"github.com/hashicorp/raft", "modernc.org/sqlite"}, "receivers know the spool at most"},
	{module + "/intake/customtrap", []string{"github.com/hashicorp/raft", "modernc.org/sqlite"}, "receivers know the spool at most"},
	{module + "/cluster", []string{"github.com/hashicorp/raft", "modernc.org/sqlite", module + "/store"}, "identity is read before there is a leader"},
}

// exceptions within a denied prefix.
var exceptions = map[string][]string{
	module + "/httpapi": {module + "/raftfsm/command"},
}

type goPackage struct {
	ImportPath string
	Doc        string
	Deps       []string
	Standard   bool
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Deps,Standard", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestArchitecture(t *testing.T) {
	for _, p := range listPackages(t) {
		if p.Doc == "" {
			t.Errorf("package %s has no doc comment", p.ImportPath)
		}
		for _, r := range rules {
			if p.ImportPath != r.pkg {
				continue
			}
			for _, d := range p.Deps {
				if denied(r.pkg, d, r.deny) {
					t.Errorf("%s depends on %s: %s", p.ImportPath, d, r.why)
				}
			}
		}
		for _, d := range p.Deps {
			if strings.HasPrefix(p.ImportPath, module+"/integration") {
				break
			}
			if strings.HasPrefix(d, module+"/integration") || strings.HasSuffix(d, "test") && strings.HasPrefix(d, module) {
				t.Errorf("%s depends on test code %s", p.ImportPath, d)
			}
		}
	}
}

func denied(pkg, dep string, deny []string) bool {
	for _, x := range deny {
		if x == "*/*" {
			// Anything with a dot in its first element is outside the standard library.
			if first, _, _ := strings.Cut(dep, "/"); strings.Contains(first, ".") {
				return true
			}
			continue
		}
		if dep != x && !strings.HasPrefix(dep, x+"/") {
			continue
		}
		ok := slices.ContainsFunc(exceptions[pkg], func(e string) bool { return dep == e })
		if !ok {
			return true
		}
	}
	return false
}
