package snmptrap

import (
	"fmt"
	"iter"
)

// The names that say what a notification is (RFC 3418 section 2, RFC 3584).
var (
	oidSysUpTime          = encodeOID(1, 3, 6, 1, 2, 1, 1, 3, 0)
	oidSNMPTrapOID        = encodeOID(1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0)
	oidSNMPTrapEnterprise = encodeOID(1, 3, 6, 1, 6, 3, 1, 1, 4, 3, 0)
	oidSNMPTrapAddress    = encodeOID(1, 3, 6, 1, 6, 3, 18, 1, 3, 0)
)

// Generic traps of version 1 (RFC 1157 section 4.1.6).
const genericEnterprise = 6

// pdu is a PDU as read. Slices are part of the message.
type pdu struct {
	tag byte
	// requestID, errorStatus and errorIndex: all but version 1 traps.
	requestID int64
	// enterprise to uptime: version 1 traps alone.
	enterprise []byte // content of the OID
	agent      []byte // content of the address
	generic    int64
	specific   int64
	uptime     uint64
	// identity is the part of a version 1 trap that names it: enterprise,
	// agent address, generic and specific trap, as received.
	identity []byte
	// varbinds is the content of the list.
	varbinds []byte
}

func (p *pdu) isNotification() bool {
	return p.tag == tagTrapV1 || p.tag == tagTrapV2 || p.tag == tagInform
}

func tagName(tag byte) string {
	switch tag {
	case tagGetRequest:
		return "GetRequest"
	case tagGetNext:
		return "GetNextRequest"
	case tagResponse:
		return "Response"
	case tagSetRequest:
		return "SetRequest"
	case tagTrapV1:
		return "Trap"
	case tagGetBulk:
		return "GetBulkRequest"
	case tagInform:
		return "InformRequest"
	case tagTrapV2:
		return "SNMPv2-Trap"
	case tagReport:
		return "Report"
	}
	return fmt.Sprintf("PDU 0x%02x", tag)
}

// parsePDU reads a PDU from its element.
func parsePDU(b []byte) (p pdu, err error) {
	outer := newCursor(b)
	tag, c, err := outer.element()
	if err != nil {
		return p, fmt.Errorf("PDU: %w", err)
	}
	p.tag = tag
	switch tag {
	case tagTrapV1:
		return p, p.parseTrapV1(&c)
	case tagGetRequest, tagGetNext, tagResponse, tagSetRequest, tagGetBulk, tagInform, tagTrapV2, tagReport:
	default:
		return p, fmt.Errorf("tag 0x%02x is no PDU", tag)
	}
	if p.requestID, err = c.integer(); err != nil {
		return p, fmt.Errorf("request id: %w", err)
	}
	for _, what := range []string{"error status", "error index"} {
		if _, err = c.integer(); err != nil {
			return p, fmt.Errorf("%s: %w", what, err)
		}
	}
	list, err := c.expect(tagSequence)
	if err != nil {
		return p, fmt.Errorf("variable bindings: %w", err)
	}
	p.varbinds = list.rest()
	return p, nil
}

func (p *pdu) parseTrapV1(c *cursor) error {
	start := c.pos
	body, err := c.expect(tagOID)
	if err != nil {
		return fmt.Errorf("enterprise: %w", err)
	}
	p.enterprise = body.rest()
	if body, err = c.expect(tagIPAddress); err != nil {
		return fmt.Errorf("agent address: %w", err)
	}
	p.agent = body.rest()
	if len(p.agent) != 4 {
		return fmt.Errorf("agent address has %d bytes", len(p.agent))
	}
	if p.generic, err = c.integer(); err != nil {
		return fmt.Errorf("generic trap: %w", err)
	}
	if p.specific, err = c.integer(); err != nil {
		return fmt.Errorf("specific trap: %w", err)
	}
	p.identity = c.buf[start:c.pos]
	if body, err = c.expect(tagTimeTicks); err != nil {
		return fmt.Errorf("time stamp: %w", err)
	}
	if p.uptime, err = unsigned(body.rest(), 4); err != nil {
		return fmt.Errorf("time stamp: %w", err)
	}
	list, err := c.expect(tagSequence)
	if err != nil {
		return fmt.Errorf("variable bindings: %w", err)
	}
	p.varbinds = list.rest()
	return nil
}

// binding is one variable binding as read.
type binding struct {
	raw   []byte // the element
	oid   []byte // content of the name
	tag   byte
	value []byte
}

// bindings yields the variable bindings of a list, and an error as the last
// element when the list is broken.
func bindings(list []byte) iter.Seq2[binding, error] {
	return func(yield func(binding, error) bool) {
		c := newCursor(list)
		for n := 1; !c.empty(); n++ {
			start := c.pos
			v, err := c.expect(tagSequence)
			var name, value cursor
			var tag byte
			if err == nil {
				name, err = v.expect(tagOID)
			}
			if err == nil {
				tag, value, err = v.element()
			}
			if err != nil {
				yield(binding{}, fmt.Errorf("variable binding %d: %w", n, err))
				return
			}
			if !yield(binding{raw: list[start:c.pos], oid: name.rest(), tag: tag, value: value.rest()}, nil) {
				return
			}
		}
	}
}
