package httpregister

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/witness"
)

// witnessDir makes this test binary a witness on that data directory.
const (
	witnessDir    = "FUTAGO_TEST_WITNESS_DIR"
	witnessListen = "FUTAGO_TEST_WITNESS_LISTEN"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(witnessDir); dir != "" {
		if err := beWitness(dir, os.Getenv(witnessListen)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func beWitness(dir, listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := witness.New(witness.Config{Dir: dir, Listen: listen, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, s.Addr())
	return s.Run(ctx)
}

// process is a witness in a process of its own.
type process struct {
	cmd  *exec.Cmd
	addr string
}

func spawn(t testing.TB, dir, listen string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)} //nolint:noctx // ended by kill
	p.cmd.Env = append(os.Environ(), witnessDir+"="+dir, witnessListen+"="+listen)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.kill()
		t.Fatalf("witness did not start: %v", err)
	}
	p.addr = strings.TrimSpace(line)
	return p
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// serve runs a witness within this process.
func serve(t testing.TB) (dir, addr string) {
	t.Helper()
	dir = t.TempDir()
	s, err := witness.New(witness.Config{Dir: dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dir, s.Addr().String()
}

func invite(t testing.TB, dir, cluster, addr string) witness.Invitation {
	t.Helper()
	inv, err := witness.NewInvitation(witness.InvitationOptions{Dir: dir, Cluster: cluster, URL: "https://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func open(t testing.TB, inv witness.Invitation, timeout time.Duration) *Register {
	t.Helper()
	r, err := New(Options{Invitation: inv, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func first() register.Record {
	return register.Record{
		Version: 1, Nonce: register.NewNonce(), Holders: register.Both,
		IdentityA: register.NewIdentity(), IdentityB: register.NewIdentity(),
	}
}

// after is a record to write over old.
func after(old register.Record) register.Record {
	next := old
	next.Version++
	next.Nonce = register.NewNonce()
	next.Term++
	return next
}

// wantKind checks that err is of one kind and of no other.
func wantKind(t *testing.T, what string, err, kind error) {
	t.Helper()
	for _, k := range []error{register.ErrConflict, register.ErrAmbiguous, register.ErrUnavailable, register.ErrMissing, register.ErrExists} {
		if errors.Is(err, k) != errors.Is(kind, k) {
			t.Fatalf("%s: %v is not %v alone", what, err, kind)
		}
	}
}

func mustRead(t *testing.T, r *Register) register.Record {
	t.Helper()
	rec, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

var _ io.Closer = (*Register)(nil)
