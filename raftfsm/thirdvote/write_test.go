package thirdvote

import (
	"errors"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/register/registertest"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// B's vote write on version 1 is delayed; a writes versions 2 and 3, and b hears
// of them; the register is put back to version 1, and b's write takes effect.
// Were it taken for done, b could lead a term beside a.
func TestVoter_Write_Overtaken_CountsForNothing(t *testing.T) {
	ids := [2]register.Identity{register.NewIdentity(), register.NewIdentity()}
	first := register.Record{Holders: register.Both, IdentityA: ids[0], IdentityB: ids[1]}
	vote := first
	vote.Term, vote.VotedFor = 2, futago.MemberB
	for name, c := range map[string]struct {
		known uint64 // version that b knows when the answer comes
		want  rules.Result
		said  int
	}{
		"not overtaken":        {known: 1, want: rules.Done},
		"by a newer version":   {known: 3, want: rules.Unknown},
		"by another version 2": {known: 2, want: rules.Unknown, said: 1},
	} {
		t.Run(name, func(t *testing.T) {
			reg := registertest.New(first)
			n := &node{c: &cluster{t: t}, id: "b", dir: t.TempDir(), identity: ids[1], client: reg.Client()}
			v, err := n.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = v.Close() }()
			n.client.SetAfter(func(register.Record) {
				if c.known > 1 {
					if err := v.heardOf(rules.Mark{Version: c.known, Nonce: register.NewNonce()}); err != nil {
						t.Error(err)
					}
				}
			})
			res, err := v.write(t.Context(), rules.Change{Kind: rules.KindVote, Term: 2, Old: reg.Current(), Next: vote})
			if res != c.want || (err == nil) != (res == rules.Done) {
				t.Errorf("result %v, %v", res, err)
			}
			if c.known == 3 && !errors.Is(err, errOvertaken) {
				t.Error(err)
			}
			if got := n.saw(EventWentBack); got != c.said {
				t.Errorf("said %d times that the register went back", got)
			}
			if m := v.mark(); m.Version != max(c.known, 2) {
				t.Errorf("knows version %d afterwards", m.Version)
			}
		})
	}
}
