package rig

import (
	"encoding/json"

	"github.com/futago/futago"
)

// plain writes settings with their secrets in the clear, as an operator sends
// them: [futago.Secret] itself never does.
func plain(s futago.IntakeSettings) (json.RawMessage, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	users, _ := doc["snmp_users"].([]any)
	for i, u := range users {
		if m, ok := u.(map[string]any); ok {
			m["auth_pass"], m["priv_pass"] = s.SNMPUsers[i].AuthPass.Reveal(), s.SNMPUsers[i].PrivPass.Reveal()
		}
	}
	return json.Marshal(doc)
}
