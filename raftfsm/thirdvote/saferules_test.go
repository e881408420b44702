//go:build !unsaferules

package thirdvote

import (
	"log/slog"
	"testing"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// Without the build tag the environment takes no rule out of force. That the
// name is not even in the binary is tested with the whole product.
func TestUnsafe_NotInThisBinary(t *testing.T) {
	t.Setenv("FUTAGO_RULES_OFF", "R1NoCondition")
	if got, err := unsafeRules(rules.Switches{}, slog.New(slog.DiscardHandler)); err != nil || got != (rules.Switches{}) {
		t.Errorf("%+v, %v", got, err)
	}
}
