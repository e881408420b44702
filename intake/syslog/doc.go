// Package syslog receives syslog messages over UDP (RFC 5426), TCP (RFC 6587)
// and TLS (RFC 5425), puts them as they are into the spool, and decodes them
// (RFC 5424, RFC 3164 and what devices make of it).
//
// Nothing that arrives is dropped for its form. [Decode] makes of each message
// what it can, names what is wrong with it, and keeps its bytes.
package syslog
