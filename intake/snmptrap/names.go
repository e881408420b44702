package snmptrap

import "github.com/futago/futago"

// The standard traps of RFC 3418, in the order of version 1's generic traps.
const standardTraps = "1.3.6.1.6.3.1.1.5."

// trapName is what is known of a trap by its name.
type trapName struct {
	name     string
	severity futago.Severity
}

// trapNames holds the notifications that are shown by name. The severity is
// notice unless the trap itself says that something is wrong or right again;
// judging further is for the rules of the operator.
var trapNames = map[string]trapName{
	// SNMPv2-MIB, RFC 3418; egpNeighborLoss: RFC 1157 through RFC 3584.
	standardTraps + "1": {"coldStart", futago.SeverityNotice},
	standardTraps + "2": {"warmStart", futago.SeverityNotice},
	standardTraps + "3": {"linkDown", futago.SeverityWarning},
	standardTraps + "4": {"linkUp", futago.SeverityInfo},
	standardTraps + "5": {"authenticationFailure", futago.SeverityWarning},
	standardTraps + "6": {"egpNeighborLoss", futago.SeverityWarning},

	// OSPF-TRAP-MIB, RFC 4750.
	"1.3.6.1.2.1.14.16.2.2":  {"ospfNbrStateChange", futago.SeverityNotice},
	"1.3.6.1.2.1.14.16.2.4":  {"ospfIfConfigError", futago.SeverityNotice},
	"1.3.6.1.2.1.14.16.2.6":  {"ospfIfAuthFailure", futago.SeverityNotice},
	"1.3.6.1.2.1.14.16.2.16": {"ospfIfStateChange", futago.SeverityNotice},
	// BGP4-MIB, RFC 4273, and its names before.
	"1.3.6.1.2.1.15.0.1": {"bgpEstablishedNotification", futago.SeverityNotice},
	"1.3.6.1.2.1.15.0.2": {"bgpBackwardTransNotification", futago.SeverityNotice},
	"1.3.6.1.2.1.15.7.1": {"bgpEstablished", futago.SeverityNotice},
	"1.3.6.1.2.1.15.7.2": {"bgpBackwardTransition", futago.SeverityNotice},
	// RMON-MIB, RFC 2819.
	"1.3.6.1.2.1.16.0.1": {"risingAlarm", futago.SeverityNotice},
	"1.3.6.1.2.1.16.0.2": {"fallingAlarm", futago.SeverityNotice},
	// BRIDGE-MIB, RFC 4188.
	"1.3.6.1.2.1.17.0.1": {"newRoot", futago.SeverityNotice},
	"1.3.6.1.2.1.17.0.2": {"topologyChange", futago.SeverityNotice},
	// UPS-MIB, RFC 1628.
	"1.3.6.1.2.1.33.2.1": {"upsTrapOnBattery", futago.SeverityNotice},
	"1.3.6.1.2.1.33.2.2": {"upsTrapTestCompleted", futago.SeverityNotice},
	"1.3.6.1.2.1.33.2.3": {"upsTrapAlarmEntryAdded", futago.SeverityNotice},
	"1.3.6.1.2.1.33.2.4": {"upsTrapAlarmEntryRemoved", futago.SeverityNotice},
	// ENTITY-MIB, RFC 6933.
	"1.3.6.1.2.1.47.2.0.1": {"entConfigChange", futago.SeverityNotice},
	// VRRP-MIB, RFC 2787.
	"1.3.6.1.2.1.68.0.1": {"vrrpTrapNewMaster", futago.SeverityNotice},
	"1.3.6.1.2.1.68.0.2": {"vrrpTrapAuthFailure", futago.SeverityNotice},
	// DISMAN-EVENT-MIB, RFC 2981.
	"1.3.6.1.2.1.88.2.0.1": {"mteTriggerFired", futago.SeverityNotice},
	"1.3.6.1.2.1.88.2.0.2": {"mteTriggerRising", futago.SeverityNotice},
	"1.3.6.1.2.1.88.2.0.3": {"mteTriggerFalling", futago.SeverityNotice},
	"1.3.6.1.2.1.88.2.0.4": {"mteTriggerFailure", futago.SeverityNotice},
	// LLDP-MIB, IEEE 802.1AB.
	"1.0.8802.1.1.2.0.0.1": {"lldpRemTablesChange", futago.SeverityNotice},
	// NET-SNMP-AGENT-MIB.
	"1.3.6.1.4.1.8072.4.0.1": {"nsNotifyStart", futago.SeverityNotice},
	"1.3.6.1.4.1.8072.4.0.2": {"nsNotifyShutdown", futago.SeverityNotice},
	"1.3.6.1.4.1.8072.4.0.3": {"nsNotifyRestart", futago.SeverityNotice},
}

// severityOf is the mapping of a trap's name to the scale of syslog.
func severityOf(trapOID string) futago.Severity {
	if n, ok := trapNames[trapOID]; ok {
		return n.severity
	}
	return futago.SeverityNotice
}
