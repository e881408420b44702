package thirdvote

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// A manager with a lost disk takes entries, says nothing, and gets its say back
// by a readmission.
func TestCluster_WipedFollower_ComesBack(t *testing.T) {
	c := start(t)
	a, b := c.nodes["a"], c.nodes["b"]
	for range 12 {
		c.write()
	}
	c.settled()
	old := b.identity
	b.crash()
	b.wipe()
	c.link.set(linkState{maxIndex: 8}) // it cannot catch up yet
	b.start()
	if term := b.raft.CurrentTerm(); b.voter.Admitted() || term < c.reg.Current().Term {
		t.Fatalf("starts admitted %v in term %d of %v", b.voter.Admitted(), term, c.reg.Current())
	}
	c.wait("takes entries", func() bool { return b.raft.LastIndex() == 8 })
	c.never("has a say", 3*heartbeat, func() bool { return b.voter.Admitted() || c.reg.Current().IdentityB != old })
	mute(t, b, a)
	c.link.set(linkState{})
	c.settled()
	if b.saw(EventAdmitted) == 0 || c.reg.Current().IdentityB != b.identity {
		t.Error("not admitted at the end")
	}
	c.mustHaveAll()
	a.crash()
	c.write()
}

// mute checks what an unadmitted node does with requests, and does not send.
func mute(t *testing.T, n, other *node) {
	t.Helper()
	hdr := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(other.id), Addr: []byte(other.addr)}
	for _, cmd := range []any{
		&raft.RequestVoteRequest{RPCHeader: hdr, Term: 99},
		&raft.RequestPreVoteRequest{RPCHeader: hdr, Term: 99},
		&raft.TimeoutNowRequest{RPCHeader: hdr},
	} {
		ch := make(chan raft.RPCResponse, 1)
		if !n.trans.refused(raft.RPC{Command: cmd, RespChan: ch}) {
			t.Errorf("%T passes", cmd)
			continue
		}
		switch r := (<-ch).Response.(type) {
		case *raft.RequestVoteResponse:
			if r.Granted {
				t.Error("votes")
			}
		case *raft.RequestPreVoteResponse:
			if r.Granted {
				t.Error("pre-votes")
			}
		}
	}
	if n.trans.refused(raft.RPC{Command: &raft.AppendEntriesRequest{}, RespChan: make(chan raft.RPCResponse, 1)}) {
		t.Error("entries do not pass")
	}
	if err := n.trans.RequestVote(ServerID, Address, nil, nil); !errors.Is(err, errUnadmitted) {
		t.Errorf("asks for votes: %v", err)
	}
	if err := n.trans.RequestPreVote(ServerID, Address, nil, nil); !errors.Is(err, errUnadmitted) {
		t.Errorf("asks for pre-votes: %v", err)
	}
	if n.voter.Status().Counters.Muted < 5 {
		t.Error("not counted")
	}
}

func TestOpen_Unadmitted_NeedsTheRegister(t *testing.T) {
	c := start(t)
	b := c.nodes["b"]
	b.crash()
	c.reg.SetDown(true)
	v, err := b.open(t.Context())
	if err != nil {
		t.Fatalf("an admitted directory: %v", err)
	}
	_ = v.Close()
	b.wipe()
	if _, err = b.open(t.Context()); futago.CodeOf(err) != futago.CodeUnavailable {
		t.Fatalf("a new directory: %v", err)
	}
	c.reg.SetDown(false)
	if v, err = b.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = v.Close()
	if term, err := b.logs.GetUint64(currentTermKey); err != nil || term < c.reg.Current().Term {
		t.Errorf("term %d, %v", term, err)
	}
}

// The old disk comes back after a new one was taken in.
func TestOpen_ReplacedDirectory_LosesItsSay(t *testing.T) {
	c := start(t)
	b := c.nodes["b"]
	b.crash()
	keep, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	logs, snaps, id := b.logs, b.snaps, b.identity
	b.wipe()
	b.start()
	c.settled()
	b.crash()
	b.logs, b.snaps, b.identity = logs, snaps, id
	if err := os.WriteFile(b.file(), keep, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := b.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Admitted() || !v.Status().Replaced {
		t.Error("the old directory has a say")
	}
	if term, _ := logs.GetUint64(currentTermKey); term < c.reg.Current().Term {
		t.Error("its term was not raised")
	}
	_ = v.Close()
	b.start()
	c.settled()
}

func TestOpen_FirstRecord_OnceAndAdmitsItsMaker(t *testing.T) {
	reg := registertest.New()
	id := register.NewIdentity()
	if _, err := Create(t.Context(), reg.Client(), "a", id); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), reg.Client(), "a", id); futago.CodeOf(err) != futago.CodeConflict {
		t.Errorf("a second time: %v", err)
	}
	n := &node{dir: t.TempDir()}
	open := func(id register.Identity, r *registertest.Register) (*Voter, error) {
		return Open(t.Context(), Config{
			Self: "a", Identity: id, Register: r.Client(), File: n.file(), HeartbeatTimeout: heartbeat,
		}, raft.NewInmemStore())
	}
	v, err := open(id, reg)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Admitted() {
		t.Error("not admitted")
	}
	_ = v.Close()
	if _, err := open(register.NewIdentity(), reg); futago.CodeOf(err) != futago.CodeCorrupt {
		t.Errorf("the file of another directory: %v", err)
	}
	v, err = open(id, registertest.New())
	if err != nil {
		t.Fatalf("an admitted directory, and a register without a record: %v", err)
	}
	if v.Status().Counters.WentBack == 0 {
		t.Error("a missing record is not seen as one that went back")
	}
	_ = v.Close()
}

func TestMemory_Damaged(t *testing.T) {
	n := &node{dir: t.TempDir()}
	id := register.NewIdentity()
	for text, want := range map[string]futago.Code{
		"{":            futago.CodeCorrupt,
		`{"format":9}`: futago.CodeIncompatible,
		`{"format":1}`: futago.CodeCorrupt,
	} {
		if err := atomicfile.WriteSummed(n.file(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadMemory(n.file(), id); futago.CodeOf(err) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	m := memory{Format: memoryFormat, Identity: id, Mark: rules.Mark{Version: 88, Nonce: register.NewNonce()}}
	if err := m.save(n.file()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(n.file())
	if err != nil {
		t.Fatal(err)
	}
	// A digit of the version: still a valid document.
	bad := bytes.Replace(whole, []byte("88"), []byte("80"), 1)
	for _, b := range [][]byte{bad, whole[:len(whole)/2], {}} {
		if err := os.WriteFile(n.file(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadMemory(n.file(), id); futago.CodeOf(err) != futago.CodeCorrupt || !strings.Contains(err.Error(), n.file()) {
			t.Errorf("%q: %v", b, err)
		}
	}
}
