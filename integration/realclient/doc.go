// Package realclient runs the programs that send traps in real life, on a host
// of the lab: logger, rsyslog, snmptrap, snmpinform and curl. Tests of intake
// use it to show that Futago understands those and not only its own generator.
package realclient
