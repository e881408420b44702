//go:build unsaferules

package thirdvote

import (
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"

	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

// RulesOff is the environment variable that names rules to take out of force,
// separated by commas, by the fields of [rules.Switches]. It exists to prove that
// tests of the whole product would notice a missing rule. A binary that is built
// without the tag unsaferules does not know it.
const RulesOff = "FUTAGO_RULES_OFF"

// unsafeRules applies RulesOff.
func unsafeRules(sw rules.Switches, l *slog.Logger) (rules.Switches, error) {
	text := os.Getenv(RulesOff)
	if text == "" {
		return sw, nil
	}
	v := reflect.ValueOf(&sw).Elem()
	for name := range strings.SplitSeq(text, ",") {
		f := v.FieldByName(name)
		if !f.IsValid() {
			return sw, fmt.Errorf("third vote: %s: there is no rule %q", RulesOff, name)
		}
		f.SetBool(true)
		l.Error("RULE TAKEN OUT OF FORCE: this cluster will lose acknowledged writes", "rule", name)
	}
	return sw, nil
}
