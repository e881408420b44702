package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/rig"
)

// What docs/third-vote.md tells an operator to do where no rule can help, with
// the commands that stand there.

// stop ends processes as an operator does.
func (s *site) stop(hosts ...string) {
	s.t.Helper()
	for _, h := range hosts {
		s.must(s.Process(h).Terminate())
		<-s.Process(h).Done()
	}
}

// run runs a command of the product that must succeed.
func (s *site) run(host string, args ...string) string {
	s.t.Helper()
	out, err := s.Run(host, args...)
	s.must(err)
	return out
}

// seize makes a manager the only holder and lets the other one follow.
func (s *site) seize(on string, args ...string) {
	s.t.Helper()
	s.stop("a", "b")
	s.t.Log(s.run(on, append([]string{"seize", "--yes", "--dir", s.Path(on)}, args...)...))
	other := peer(on)
	s.run(other, append([]string{"seize", "--follow", "--yes", "--dir", s.Path(other)}, args...)...)
	s.start(on, other)
}

// record is the file of the cluster's record in the witness.
func (s *site) record() string { return filepath.Join(s.Path("w"), "clusters", "rig", "record") }

// recovered checks that nothing was lost, and that the third vote does its work.
func (s *site) recovered(text, value string) {
	s.t.Helper()
	s.AwaitFull(30 * time.Second)
	l := s.leads()
	s.only(l, text, "a", "b")
	s.holds(l, value)
	s.kill(l)
	s.writes(peer(l))
	s.start(l)
	s.same()
}

func TestOperator_RecordDamaged(t *testing.T) {
	s := newSite(t, rig.Options{})
	l := s.leads()
	s.writes(l)
	text := s.send()
	s.only(l, text, "a", "b")
	s.stop("w")
	b, err := os.ReadFile(s.record())
	s.must(err)
	b[len(b)/2] ^= 1
	s.must(os.WriteFile(s.record(), b, 0o600))
	s.start("w")
	s.word(l, futago.RedundancyNoSpare, "the third vote does not answer")
	if log := s.Process("w").Log(); !strings.Contains(log, s.record()) {
		t.Error("the witness does not name the file")
	}
	value := s.writes(l) // both managers go on
	s.stop("a", "b")
	if out, err := s.Run(l, "seize", "--yes", "--dir", s.Path(l)); err == nil {
		t.Errorf("seized a damaged record: %s", out)
	}
	s.start("a", "b")
	s.must(os.Remove(s.record()))
	s.leads()
	s.seize(l)
	s.recovered(text, value)
}

func TestOperator_WitnessLost(t *testing.T) {
	s := newSite(t, rig.Options{})
	l := s.leads()
	value, text := s.writes(l), s.send()
	s.only(l, text, "a", "b")
	s.kill("w")
	s.must(os.RemoveAll(s.Path("w")))
	inv := strings.TrimSpace(s.run("w", "witness", "invite", "--data", s.Path("w"), "--cluster", "rig",
		"--url", "https://"+s.Lab.Host("w").AddrPort(7702).String()))
	s.start("w")
	s.seize(l, "--witness", inv)
	s.recovered(text, value)
}

func TestOperator_RestoredFromACopy(t *testing.T) {
	s := newSite(t, rig.Options{})
	l := s.leads()
	copied, err := os.ReadFile(s.record())
	s.must(err)
	s.kill(peer(l)) // the record moves
	s.writes(l)
	s.start(peer(l))
	s.AwaitFull(20 * time.Second)
	value, text := s.writes(l), s.send()
	s.only(l, text, "a", "b")
	s.stop("w")
	s.must(os.WriteFile(s.record(), copied, 0o600))
	s.start("w")
	s.word(l, futago.RedundancyNoSpare)
	s.seize(l)
	s.recovered(text, value)
}

func TestOperator_ManagerGone(t *testing.T) {
	s := newSite(t, rig.Options{})
	l := s.leads()
	s.writes(l)
	text := s.send()
	s.only(l, text, "a", "b")
	gone := peer(l)
	s.kill(gone)
	s.must(os.RemoveAll(s.Path(gone)))
	s.writes(l)
	s.Join(gone, l)
	s.start(gone)
	value := s.writes(l)
	s.recovered(text, value)
}

func TestOperator_OnlyHolderGone(t *testing.T) {
	s := newSite(t, rig.Options{})
	l := s.leads()
	other := peer(l)
	value, text := s.writes(l), s.send()
	s.only(l, text, "a", "b")
	s.AwaitFull(10 * time.Second)
	s.kill(other)
	s.writes(l) // lost for good
	s.kill(l)
	s.must(os.RemoveAll(s.Path(l)))
	s.start(other)
	s.word(other, futago.RedundancyStoppedSafe, "futago seize")
	s.stop(other)
	t.Log(s.run(other, "seize", "--yes", "--dir", s.Path(other)))
	s.start(other)
	s.Await(20*time.Second, other+" reads", func() error {
		got, err := s.strong(other)
		if err == nil && got != value {
			t.Fatalf("reads %s, written was %s", got, value)
		}
		return err
	})
	value = s.writes(other)
	s.Join(l, other)
	s.start(l)
	s.recovered(text, value)
}
