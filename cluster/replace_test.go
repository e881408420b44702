package cluster_test

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
)

// join makes a member through adm.
func join(t *testing.T, adm *cluster.Admission, m futago.MemberID, addr string) *cluster.Dir {
	t.Helper()
	token, err := adm.Issue(m, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o := joinOptions(t, token)
	o.Addresses.Cluster = addr
	d, err := cluster.Join(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestJoin_InPlaceOfALostMember(t *testing.T) {
	a, adm := issuer(t, time.Now)
	b1 := join(t, adm, futago.MemberB, "127.0.0.2:7701")
	b2 := join(t, adm, futago.MemberB, "127.0.0.3:7701")
	if b1.Node().Directory == b2.Node().Directory {
		t.Error("the new directory has the old one's identity")
	}
	if got := a.Node().Members[futago.MemberB]; got.Cluster != "127.0.0.3:7701" || got.Joins != 2 {
		t.Errorf("the issuer knows b as %+v", got)
	}
	// What another member remembers from before does not come back.
	if news, err := a.AddMember(futago.MemberB, b1.Node().Members[futago.MemberB]); news || err != nil {
		t.Errorf("an old address was taken up: %v, %v", news, err)
	}
	if news, err := b1.AddMember(futago.MemberB, b2.Node().Members[futago.MemberB]); !news || err != nil {
		t.Errorf("a newer address was not taken up: %v, %v", news, err)
	}
	handshake(t, a, b2)
	// The old directory is refused by who knows, in both directions.
	id := a.Node().ClusterID
	if err := shake(t, a.Keys().PeerTLS(id, ""), b1.Keys().PeerTLS(id, futago.MemberA)); futago.CodeOf(err) != futago.CodeUnauthorized {
		t.Errorf("a takes the old b: %v", err)
	}
	if err := shake(t, b1.Keys().PeerTLS(id, ""), a.Keys().PeerTLS(id, futago.MemberB)); futago.CodeOf(err) != futago.CodeUnauthorized {
		t.Errorf("a dials the old b: %v", err)
	}
}

// TestJoin_Founder replaces the founder itself, through the manager that joined it.
func TestJoin_Founder(t *testing.T) {
	first, adm := issuer(t, time.Now)
	b := join(t, adm, futago.MemberB, "127.0.0.2:7701")
	a := join(t, serve(t, b, time.Now), futago.MemberA, "127.0.0.9:7701")
	n := a.Node()
	if n.Founder || n.Member != futago.MemberA || n.Directory == first.Node().Directory {
		t.Errorf("the new a is %+v; a founder would make a second history", n)
	}
	if n.Members[futago.MemberB].Cluster != "127.0.0.2:7701" || n.Members[futago.MemberA].Joins != 2 {
		t.Errorf("it knows %+v", n.Members)
	}
	handshake(t, a, b)
	if _, err := cluster.NewAdmission(a, time.Now, nil).Issue(futago.MemberB, time.Hour); err != nil {
		t.Errorf("the new a cannot admit others: %v", err)
	}
}

func TestIssue_Refused(t *testing.T) {
	_, adm := issuer(t, time.Now)
	for name, test := range map[string]struct {
		member futago.MemberID
		ttl    time.Duration
	}{
		"itself":              {futago.MemberA, time.Hour},
		"nobody":              {"x", time.Hour},
		"a register's member": {futago.MemberW, time.Hour},
		"no time":             {futago.MemberB, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := adm.Issue(test.member, test.ttl); futago.CodeOf(err) != futago.CodeInvalid {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestPeerTLS_WrongClock proves that a host whose clock is decades off stays a
// member: what matters is who signed.
func TestPeerTLS_WrongClock(t *testing.T) {
	past := func() time.Time { return time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) }
	a, adm := issuer(t, past)
	handshake(t, a, join(t, adm, futago.MemberB, "127.0.0.2:7701"))
}

func TestPeerTLS_AnotherCluster(t *testing.T) {
	a, other := initA(t, "127.0.0.1:7700"), initA(t, "127.0.0.1:7700")
	ca, cb := net.Pipe()
	srv := tls.Server(ca, a.Keys().PeerTLS(a.Node().ClusterID, ""))
	// A client that takes any server: the server must refuse on its own.
	conf := other.Keys().PeerTLS(other.Node().ClusterID, "")
	conf.VerifyConnection = nil
	cli := tls.Client(cb, conf)
	done := make(chan error, 1)
	go func() {
		_ = cli.HandshakeContext(t.Context())
		_, err := cli.Read(make([]byte, 1))
		done <- err
	}()
	err := srv.HandshakeContext(t.Context())
	if futago.CodeOf(err) != futago.CodeUnauthorized {
		t.Errorf("the server says %v", err)
	}
	_ = ca.Close()
	if err := <-done; err == nil {
		t.Error("the client was let in")
	}
}

func TestDir_ConcurrentUse(t *testing.T) {
	d := initA(t, "127.0.0.1:7700")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := d.AddMember(futago.MemberB, cluster.Addresses{Cluster: "h:1", API: "h:2", Joins: uint64(i + 1)}); err != nil {
				t.Error(err)
			}
			_ = len(d.Node().Members)
		})
	}
	wg.Wait()
	if got := d.Node().Members[futago.MemberB].Joins; got != 8 {
		t.Errorf("the last one known is %d", got)
	}
}
