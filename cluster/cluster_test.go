package cluster_test

import (
	"crypto/tls"
	"io"
	"log"
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

// issuer makes a founder that answers joins.
func issuer(t *testing.T, clock func() time.Time) (*cluster.Dir, *cluster.Admission) {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	d := initA(t, ln.Addr().String())
	adm := cluster.NewAdmission(d, clock, nil)
	serveOn(t, ln, d, adm)
	return d, adm
}

// serve answers joins at d's API address.
func serve(t *testing.T, d *cluster.Dir, clock func() time.Time) *cluster.Admission {
	t.Helper()
	n := d.Node()
	adm := cluster.NewAdmission(d, clock, nil)
	serveOn(t, listen(t, n.Members[n.Member].API), d, adm)
	return adm
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// serveOn answers joins with d's certificate.
func serveOn(t *testing.T, ln net.Listener, d *cluster.Dir, h http.Handler) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(cluster.JoinPath, h)
	srv := &http.Server{Handler: mux, TLSConfig: d.Keys().ServerTLS(), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = srv.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { _ = srv.Close() })
}

func joinOptions(t *testing.T, token string) cluster.JoinOptions {
	return cluster.JoinOptions{
		Dir: filepath.Join(t.TempDir(), "b"), Token: token, Now: time.Now(),
		Addresses: cluster.Addresses{Cluster: "127.0.0.2:7701", API: "127.0.0.2:17700"},
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

// shake connects a dialler to an accepting end and returns what one of them
// has against the other.
func shake(t *testing.T, accept, dial *tls.Config) error {
	t.Helper()
	ca, cb := net.Pipe()
	done := make(chan error, 1)
	go func() {
		err := tls.Server(ca, accept).HandshakeContext(t.Context())
		_ = ca.Close()
		done <- err
	}()
	err := tls.Client(cb, dial).HandshakeContext(t.Context())
	if err == nil {
		_, _ = cb.Read(make([]byte, 1)) // the server judges after the client has ended
	}
	_ = cb.Close()
	if serr := <-done; err == nil {
		err = serr
	}
	return err
}

// handshake proves that the two members accept each other, by name.
func handshake(t *testing.T, a, b *cluster.Dir) {
	id := a.Node().ClusterID
	dial := func(want futago.MemberID) error {
		return shake(t, a.Keys().PeerTLS(id, ""), b.Keys().PeerTLS(id, want))
	}
	if err := dial(futago.MemberA); err != nil {
		t.Errorf("b dials a: %v", err)
	}
	if err := dial(futago.MemberW); futago.CodeOf(err) != futago.CodeUnauthorized {
		t.Errorf("b dials w and finds a: %v", err)
	}
}

// TestJoin_AnswerLost repeats a join whose answer did not arrive: the token is
// used up, and yet good for the same directory.
func TestJoin_AnswerLost(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	a := initA(t, ln.Addr().String())
	adm := cluster.NewAdmission(a, time.Now, nil)
	lost := false
	serveOn(t, ln, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !lost {
			lost = true
			adm.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		adm.ServeHTTP(w, r)
	}))
	token, err := adm.Issue(futago.MemberB, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o := joinOptions(t, token)
	if _, err := cluster.Join(t.Context(), o); futago.CodeOf(err) != futago.CodeUnavailable {
		t.Fatalf("the first try: %v", err)
	}
	if cluster.Exists(o.Dir) {
		t.Error("a member is in the directory already")
	}
	b, err := cluster.Join(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got := a.Node().Members[futago.MemberB].Joins; got != 1 {
		t.Errorf("counted as %d joins", got)
	}
	handshake(t, a, b)
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
	t.Run("no such manager", func(t *testing.T) {
		gone := initA(t, "127.0.0.1:1")
		tok, err := cluster.NewAdmission(gone, time.Now, nil).Issue(futago.MemberB, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := join(joinOptions(t, tok)); futago.CodeOf(err) != futago.CodeUnavailable || !strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Errorf("joined through nobody: %v", err)
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
