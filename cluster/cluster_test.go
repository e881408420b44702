package cluster_test

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

var now = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

func initA(t *testing.T, api string) *cluster.Dir {
	t.Helper()
	d, err := cluster.Init(cluster.InitOptions{
		Dir: filepath.Join(t.TempDir(), "a"), ClusterName: "test", ThirdVote: cluster.ThirdVoteRegister, Invitation: "fgw1.x",
		Addresses: cluster.Addresses{Cluster: "127.0.0.1:7701", API: api}, Now: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// issuer serves joins of d's cluster over TLS with d's certificate.
func issuer(t *testing.T, clock func() time.Time) (*cluster.Dir, *cluster.Admission) {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	d := initA(t, srv.Listener.Addr().String())
	a := cluster.NewAdmission(d, clock, nil)
	mux := http.NewServeMux()
	mux.Handle(cluster.JoinPath, a)
	srv.Config.Handler = mux
	srv.TLS = d.Keys().ServerTLS()
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return d, a
}

func joinOptions(t *testing.T, token string) cluster.JoinOptions {
	return cluster.JoinOptions{
		Dir: filepath.Join(t.TempDir(), "b"), Token: token, Now: time.Now(),
		Addresses: cluster.Addresses{Cluster: "127.0.0.2:7701", API: "127.0.0.2:7700"},
	}
}

func TestJoin(t *testing.T) {
	a, adm := issuer(t, time.Now)
	token, err := adm.Issue(futago.MemberB, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cluster.Join(t.Context(), joinOptions(t, token))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	na, nb := a.Node(), b.Node()
	if nb.Member != futago.MemberB || nb.ClusterID != na.ClusterID || nb.Directory == na.Directory || nb.Founder {
		t.Errorf("joined as %+v", nb)
	}
	if got := a.Node().Members[futago.MemberB].Cluster; got != "127.0.0.2:7701" {
		t.Errorf("the issuer knows b at %q", got)
	}
	sealed, err := a.Keys().Seal("hunter2")
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := b.Keys().Open(sealed); err != nil || plain != "hunter2" {
		t.Errorf("b opens what a sealed as %q, %v", plain, err)
	}
	inv, err := b.Keys().Open(nb.Invitation)
	if err != nil || inv != "fgw1.x" {
		t.Errorf("b's invitation is %q, %v", inv, err)
	}
	raw, err := os.ReadFile(filepath.Join(b.Path(), "node.json"))
	if err != nil || strings.Contains(string(raw), "fgw1.x") {
		t.Errorf("node.json shows the invitation: %v", err)
	}
	t.Run("member link", func(t *testing.T) { handshake(t, a, b) })
}

// handshake proves that the two members accept each other, by name.
func handshake(t *testing.T, a, b *cluster.Dir) {
	id := a.Node().ClusterID
	dial := func(want futago.MemberID) error {
		ca, cb := net.Pipe()
		srv := tls.Server(ca, a.Keys().PeerTLS(id, ""))
		cli := tls.Client(cb, b.Keys().PeerTLS(id, want))
		done := make(chan error, 1)
		go func() { done <- srv.HandshakeContext(t.Context()) }()
		err := cli.HandshakeContext(t.Context())
		_ = cb.Close()
		if serr := <-done; err == nil {
			err = serr
		}
		return err
	}
	if err := dial(futago.MemberA); err != nil {
		t.Errorf("b dials a: %v", err)
	}
	if err := dial(futago.MemberW); futago.CodeOf(err) != futago.CodeUnauthorized {
		t.Errorf("b dials w and finds a: %v", err)
	}
}

func TestJoin_Refused(t *testing.T) {
	clock := time.Now()
	_, adm := issuer(t, func() time.Time { return clock })
	issue := func() string {
		tok, err := adm.Issue(futago.MemberB, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	join := func(o cluster.JoinOptions) error {
		d, err := cluster.Join(t.Context(), o)
		if err == nil {
			_ = d.Close()
		}
		return err
	}
	t.Run("used twice", func(t *testing.T) {
		tok := issue()
		if err := join(joinOptions(t, tok)); err != nil {
			t.Fatal(err)
		}
		err := join(joinOptions(t, tok))
		if futago.CodeOf(err) != futago.CodeConflict || !strings.Contains(err.Error(), "issue another") {
			t.Errorf("second use: %v", err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		tok := issue()
		clock = clock.Add(2 * time.Hour)
		if err := join(joinOptions(t, tok)); futago.CodeOf(err) != futago.CodeUnauthorized {
			t.Errorf("expired: %v", err)
		}
	})
	t.Run("another cluster answers", func(t *testing.T) {
		tok := issue()
		_, other := issuer(t, time.Now)
		theirs, err := other.Issue(futago.MemberB, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		mixed := cluster.Redirect(t, tok, theirs)
		if err := join(joinOptions(t, mixed)); err == nil || !strings.Contains(err.Error(), "not the cluster that issued the token") {
			t.Errorf("joined through another cluster: %v", err)
		}
	})
	t.Run("no token", func(t *testing.T) {
		if err := join(joinOptions(t, "fgj1.nonsense")); futago.CodeOf(err) != futago.CodeInvalid {
			t.Errorf("nonsense: %v", err)
		}
	})
	t.Run("directory in use", func(t *testing.T) {
		o := joinOptions(t, issue())
		d, err := cluster.Join(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if _, err := cluster.Open(o.Dir); futago.CodeOf(err) != futago.CodeConflict {
			t.Errorf("opened a locked directory: %v", err)
		}
	})
}

func TestOpen_Damaged(t *testing.T) {
	fresh := func(t *testing.T) string {
		d := initA(t, "127.0.0.1:7700")
		path := d.Path()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flip := func(t *testing.T, path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"node.json", "pki/ca.crt", "pki/member.crt", "pki/member.key", "pki/ca.key"} {
		t.Run(name, func(t *testing.T) {
			dir := fresh(t)
			flip(t, filepath.Join(dir, name))
			_, err := cluster.Open(dir)
			if futago.CodeOf(err) != futago.CodeCorrupt && futago.CodeOf(err) != futago.CodeUnauthorized {
				t.Fatalf("code %q: %v", futago.CodeOf(err), err)
			}
			if futago.CodeOf(err) == futago.CodeCorrupt && !strings.Contains(err.Error(), filepath.Base(name)) && !strings.Contains(err.Error(), "key") {
				t.Errorf("the error does not name the file: %v", err)
			}
		})
	}
	t.Run("no member", func(t *testing.T) {
		_, err := cluster.Open(t.TempDir())
		if futago.CodeOf(err) != futago.CodeNotFound || !errors.As(err, new(*futago.Error)) {
			t.Errorf("empty directory: %v", err)
		}
	})
	t.Run("certificate of another cluster", func(t *testing.T) {
		dir, other := fresh(t), fresh(t)
		for _, f := range []string{"member.crt", "member.key"} {
			b, err := os.ReadFile(filepath.Join(other, "pki", f))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "pki", f), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := cluster.Open(dir); futago.CodeOf(err) != futago.CodeUnauthorized {
			t.Errorf("a foreign certificate: %v", err)
		}
	})
}

func TestInit_Refused(t *testing.T) {
	good := cluster.InitOptions{
		Dir: filepath.Join(t.TempDir(), "d"), ClusterName: "x", ThirdVote: cluster.ThirdVoteManager, Now: now,
		Addresses: cluster.Addresses{Cluster: "h:1", API: "h:2"},
	}
	for name, change := range map[string]func(*cluster.InitOptions){
		"no invitation":   func(o *cluster.InitOptions) { o.ThirdVote = cluster.ThirdVoteRegister },
		"unknown kind":    func(o *cluster.InitOptions) { o.ThirdVote = "coin" },
		"any address":     func(o *cluster.InitOptions) { o.Addresses.Cluster = "0.0.0.0:7701" },
		"no port":         func(o *cluster.InitOptions) { o.Addresses.API = "host" },
		"empty host":      func(o *cluster.InitOptions) { o.Addresses.Cluster = ":7701" },
		"port to be made": func(o *cluster.InitOptions) { o.Addresses.Cluster = "h:0" },
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			change(&o)
			if _, err := cluster.Init(o); futago.CodeOf(err) != futago.CodeInvalid {
				t.Errorf("got %v", err)
			}
		})
	}
}
