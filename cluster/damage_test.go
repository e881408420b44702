package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
	"github.com/futago/futago/cluster"
)

// closedA makes a data directory and leaves it.
func closedA(t *testing.T) string {
	t.Helper()
	d := initA(t, "127.0.0.1:7700")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return d.Path()
}

// refused opens a directory that must not open, and wants all words in the error.
func refused(t *testing.T, dir string, code futago.Code, words ...string) {
	t.Helper()
	d, err := cluster.Open(dir)
	if err == nil {
		_ = d.Close()
	}
	if futago.CodeOf(err) != code {
		t.Fatalf("code %q, want %q: %v", futago.CodeOf(err), code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is missing in: %v", w, err)
		}
	}
}

func TestOpen_Damaged(t *testing.T) {
	for _, name := range []string{"node.json", "pki/ca.crt", "pki/member.crt", "pki/member.key", "pki/ca.key", "pki/seal.key"} {
		t.Run(name, func(t *testing.T) {
			dir := closedA(t)
			path := filepath.Join(dir, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/3] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, dir, futago.CodeCorrupt, path, "join")
		})
	}
	t.Run("no member", func(t *testing.T) { refused(t, t.TempDir(), futago.CodeNotFound, "futago init") })
	t.Run("missing", func(t *testing.T) {
		dir := closedA(t)
		path := filepath.Join(dir, "pki", "seal.key")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, futago.CodeCorrupt, path)
	})
	t.Run("newer layout", func(t *testing.T) {
		dir := closedA(t)
		// What else a newer version writes need not decode.
		if err := atomicfile.WriteSummed(filepath.Join(dir, "node.json"), []byte(`{"format": 2, "member": 7}`), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, futago.CodeIncompatible, "layout 2", "install")
	})
}

func TestOpen_Mixed(t *testing.T) {
	for name, test := range map[string]struct {
		files []string
		code  futago.Code
	}{
		"certificate of another cluster": {[]string{"pki/member.crt", "pki/member.key"}, futago.CodeConflict},
		"pki of another cluster":         {[]string{"pki/ca.crt", "pki/ca.key", "pki/member.crt", "pki/member.key", "pki/seal.key"}, futago.CodeConflict},
		"node.json of another cluster":   {[]string{"node.json"}, futago.CodeConflict},
		"key of another certificate":     {[]string{"pki/member.key"}, futago.CodeCorrupt},
		"CA key of another CA":           {[]string{"pki/ca.key"}, futago.CodeCorrupt},
		"seal key of another cluster":    {[]string{"pki/seal.key"}, futago.CodeCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			dir, other := closedA(t), closedA(t)
			for _, f := range test.files {
				b, err := os.ReadFile(filepath.Join(other, f))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, f), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			refused(t, dir, test.code, "pki/", "join anew")
		})
	}
}

func TestAdmission_DamagedTokens(t *testing.T) {
	d, adm := issuer(t, nil)
	path := d.Path("join-tokens.json")
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.Issue(futago.MemberB, 1); futago.CodeOf(err) != futago.CodeCorrupt || !strings.Contains(err.Error(), path) {
		t.Errorf("issued from a damaged file: %v", err)
	}
}
