//go:build unsaferules

package thirdvote

import (
	"log/slog"
	"testing"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

func TestUnsafe_NamesRules(t *testing.T) {
	l := slog.New(slog.DiscardHandler)
	t.Setenv(RulesOff, "R1NoCondition,R4AnyCandidate")
	if got, err := unsafeRules(rules.Switches{}, l); err != nil || got != (rules.Switches{R1NoCondition: true, R4AnyCandidate: true}) {
		t.Errorf("%+v, %v", got, err)
	}
	t.Setenv(RulesOff, "R1NoConditions")
	if _, err := unsafeRules(rules.Switches{}, l); err == nil {
		t.Error("a rule that does not exist is taken")
	}
}
