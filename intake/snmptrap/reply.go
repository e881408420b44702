package snmptrap

import "slices"

// maxMessage is what we say that we can take: the largest UDP payload over IPv4.
const maxMessage = 65507

// reply describes a message that an inform's sender gets.
type reply struct {
	msgID int64
	flags byte // flagAuth and flagPriv
	user  []byte
	o     *opened // keys; used when flags ask for them
	// scoped PDU
	contextEngineID []byte
	contextName     []byte
	pdu             []byte
}

// appendV2c writes a whole version 1 or 2c message.
func appendV2c(dst []byte, version int, community, pdu []byte) []byte {
	body := appendInteger(nil, tagInteger, int64(version))
	body = appendElement(body, tagOctetString, community)
	body = append(body, pdu...)
	return appendElement(dst, tagSequence, body)
}

// responsePDU is the answer to an inform: the same request id and bindings
// (RFC 3416 section 4.2.7).
func responsePDU(p *pdu) []byte { return plainPDU(tagResponse, p.requestID, p.varbinds) }

func plainPDU(tag byte, requestID int64, varbinds []byte) []byte {
	body := make([]byte, 0, len(varbinds)+24)
	body = appendInteger(body, tagInteger, requestID)
	body = appendInteger(body, tagInteger, 0)
	body = appendInteger(body, tagInteger, 0)
	body = appendElement(body, tagSequence, varbinds)
	return appendElement(nil, tag, body)
}

// usmStats is the parent of the counters that reports name (RFC 3414 section 5);
// the fault's number is the next arc, and 0 the last.
var usmStats = []uint32{1, 3, 6, 1, 6, 3, 15, 1, 1}

// reportPDU names a fault and the count of it.
func reportPDU(requestID int64, f fault, count uint32) []byte {
	vb := appendElement(nil, tagOID, encodeOID(append(slices.Clip(usmStats), uint32(f), 0)...))
	vb = appendInteger(vb, tagCounter32, int64(count))
	return plainPDU(tagReport, requestID, appendElement(nil, tagSequence, vb))
}

// seal writes a version 3 message with this engine as the authoritative one
// (RFC 3412 section 7.1, RFC 3414 section 3.1).
func (e *Engine) seal(r *reply) []byte {
	scoped := appendElement(nil, tagOctetString, r.contextEngineID)
	scoped = appendElement(scoped, tagOctetString, r.contextName)
	scoped = append(scoped, r.pdu...)
	data := appendElement(nil, tagSequence, scoped)
	boots, now := e.boots, e.Time()

	var salt []byte
	if r.flags&flagPriv != 0 {
		k := r.o.keys.priv
		salt = e.nextSalt(k.proto)
		data = appendElement(nil, tagOctetString, k.encrypt(boots, now, salt, data))
	}
	digest := 0
	if r.flags&flagAuth != 0 {
		digest = r.o.user.auth.digest
	}
	usm := appendElement(nil, tagOctetString, e.id)
	usm = appendInteger(usm, tagInteger, int64(boots))
	usm = appendInteger(usm, tagInteger, int64(now))
	usm = appendElement(usm, tagOctetString, r.user)
	usm = appendElement(usm, tagOctetString, make([]byte, digest))
	tail := len(usm)
	usm = appendElement(usm, tagOctetString, salt)
	tail = len(usm) - tail + len(data) // what follows the digest

	head := appendInteger(nil, tagInteger, r.msgID)
	head = appendInteger(head, tagInteger, maxMessage)
	head = append(head, tagOctetString, 1, r.flags)
	head = appendInteger(head, tagInteger, modelUSM)

	body := appendInteger(nil, tagInteger, versionV3)
	body = appendElement(body, tagSequence, head)
	body = appendElement(body, tagOctetString, appendElement(nil, tagSequence, usm))
	body = append(body, data...)
	msg := appendElement(nil, tagSequence, body)
	if digest > 0 {
		at := len(msg) - tail - digest
		copy(msg[at:], r.o.user.auth.digestOf(r.o.keys.auth, msg, at))
	}
	return msg
}

// report answers a message that was not accepted (RFC 3414 section 3.2). The
// one about time is authenticated, so that its sender may believe the time.
func (e *Engine) report(m *message, o *opened, f fault) []byte {
	r := reply{msgID: m.msgID, user: m.user, contextEngineID: e.id, contextName: o.contextName}
	if f == faultNotInTimeWindow {
		r.flags, r.o = flagAuth, o
	}
	var requestID int64
	if p, err := parsePDU(o.pdu); err == nil {
		requestID = p.requestID
	}
	r.pdu = reportPDU(requestID, f, e.faults[f].Add(1))
	return e.seal(&r)
}

// response answers an accepted inform at its own security level.
func (e *Engine) response(m *message, o *opened, p *pdu) []byte {
	return e.seal(&reply{
		msgID: m.msgID, flags: o.level, user: m.user, o: o,
		contextEngineID: o.contextEngineID, contextName: o.contextName, pdu: responsePDU(p),
	})
}
