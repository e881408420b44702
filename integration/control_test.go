package integration_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/futago/futago/integration/generate"
	"github.com/futago/futago/integration/rig"
)

// rulesOff is the variable of a binary with the build tag unsaferules.
const rulesOff = "FUTAGO_RULES_OFF"

// cuts is the schedule of the controls: the managers are cut apart and meet
// again, over and over, while both reach the witness. So the leader goes on
// alone, acknowledges, and must have got its peer back before the next cut.
const (
	cuts      = 3
	cutFor    = 2500 * time.Millisecond // an election takes 0.3 to 0.6 s
	betweenIt = 2500 * time.Millisecond // for the peer to be taken back
)

func (n *nemesis) cutAndHeal(ctx context.Context) {
	for range cuts {
		n.note("cut a|b")
		n.must(n.r.Lab.Cut("a", "b"))
		n.sleep(ctx, cutFor, cutFor+time.Millisecond)
		n.note("end of cut a|b")
		n.must(n.r.Lab.Heal("a", "b"))
		n.sleep(ctx, betweenIt, betweenIt+time.Millisecond)
	}
}

// The checks of the main test see a rule of the third vote that is missing in
// the product, and with the same binary, schedule and load see nothing while all
// rules are in force.
func TestControl_MissingRule_IsSeen(t *testing.T) {
	binary := rig.Binary(t, "unsaferules")
	for _, off := range []string{"", "R1NoCondition", "R2ByReading", "R3KeepSolo", "R4AnyCandidate"} {
		t.Run("off="+off, func(t *testing.T) {
			var env []string
			if off != "" {
				env = []string{rulesOff + "=" + off}
			}
			t.Parallel()
			x := newTrial(t, generate.Plan{Seed: 1, Rate: 60, Duration: cuts * (cutFor + betweenIt), Burst: 0.2, BurstMax: 5}, binary, env)
			x.run(cuts*(cutFor+betweenIt), x.n.cutAndHeal)
			if off == "" {
				if err := x.check(90 * time.Second); err != nil {
					t.Error(err)
				}
				return
			}
			for _, host := range []string{"a", "b"} {
				if log := x.r.Process(host).Log(); !strings.Contains(log, "RULE TAKEN OUT OF FORCE") || !strings.Contains(log, off) {
					t.Fatalf("manager %s does not say that %s is not in force", host, off)
				}
			}
			err := x.check(10 * time.Second)
			t.Logf("found: %v", err)
			// A cluster that does not heal in time would be no proof.
			if !errors.Is(err, errNoOrder) && !errors.Is(err, errDiffer) {
				t.Error("the checks do not see that the rule is missing")
			}
		})
	}
}

// The product as it is shipped cannot be told to leave a rule out.
func TestControl_NotInTheProduct(t *testing.T) {
	for _, tags := range [][]string{nil, {"unsaferules"}} {
		b, err := os.ReadFile(rig.Binary(t, tags...))
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(b, []byte(rulesOff)); got != (tags != nil) {
			t.Errorf("build tags %v: the binary knows %s: %v", tags, rulesOff, got)
		}
	}
}
