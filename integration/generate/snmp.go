package generate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 3414 names it
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

// An encoder of SNMP notifications that shares nothing with the decoder under
// test: BER by hand (RFC 3416), USM by hand (RFC 3414, RFC 3826, RFC 7860).

// The trap that is sent and the binding that carries its text: in the
// "experimental" part of net-snmp's enterprise.
var (
	oidSysUpTime = []byte{0x2b, 6, 1, 2, 1, 1, 3, 0}
	oidTrapOID   = []byte{0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0}
	oidTrap      = []byte{0x2b, 6, 1, 4, 1, 0xbf, 0x08, 0xce, 0x0f, 1} // 1.3.6.1.4.1.8072.9999.1
	oidText      = []byte{0x2b, 6, 1, 4, 1, 0xbf, 0x08, 0xce, 0x0f, 2} // 1.3.6.1.4.1.8072.9999.2
)

const (
	tagInteger   = 0x02
	tagOctets    = 0x04
	tagOID       = 0x06
	tagSequence  = 0x30
	tagTimeTicks = 0x43
	tagInform    = 0xa6
	tagTrap      = 0xa7
	tagResponse  = 0xa2
)

// appendTLV appends a tag, a length and the content.
func appendTLV(dst []byte, tag byte, content []byte) []byte {
	return append(appendHeader(dst, tag, len(content)), content...)
}

func appendHeader(dst []byte, tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(dst, tag, byte(n))
	case n < 0x100:
		return append(dst, tag, 0x81, byte(n))
	default:
		return append(dst, tag, 0x82, byte(n>>8), byte(n))
	}
}

// appendUint appends a number in as few octets as BER allows (RFC 2578: an
// unsigned number keeps a leading zero octet where its highest bit is set).
func appendUint(dst []byte, tag byte, v uint32) []byte {
	var b [5]byte
	binary.BigEndian.PutUint32(b[1:], v)
	p := b[:]
	for len(p) > 1 && p[0] == 0 && p[1]&0x80 == 0 {
		p = p[1:]
	}
	return appendTLV(dst, tag, p)
}

func appendBinding(dst, oid []byte, value []byte) []byte {
	n := 2 + len(oid) + len(value)
	dst = appendHeader(dst, tagSequence, n)
	dst = appendTLV(dst, tagOID, oid)
	return append(dst, value...)
}

// appendPDU appends a notification.
func appendPDU(dst []byte, tag byte, id, uptime uint32, text []byte) []byte {
	var a [32]byte
	bindings := make([]byte, 0, 64+len(text))
	bindings = appendBinding(bindings, oidSysUpTime, appendUint(a[:0], tagTimeTicks, uptime))
	bindings = appendBinding(bindings, oidTrapOID, appendTLV(a[:0], tagOID, oidTrap))
	bindings = appendBinding(bindings, oidText, appendTLV(make([]byte, 0, 4+len(text)), tagOctets, text))

	body := make([]byte, 0, 32+len(bindings))
	body = appendUint(body, tagInteger, id)
	body = appendUint(body, tagInteger, 0) // error-status
	body = appendUint(body, tagInteger, 0) // error-index
	body = appendTLV(body, tagSequence, bindings)
	return appendTLV(dst, tag, body)
}

// appendV2c appends a whole message of version 2c.
func appendV2c(dst []byte, community string, tag byte, id, uptime uint32, text []byte) []byte {
	body := make([]byte, 0, 128+len(text))
	body = appendUint(body, tagInteger, 1) // version 2c
	body = appendTLV(body, tagOctets, []byte(community))
	body = appendPDU(body, tag, id, uptime, text)
	return appendTLV(dst, tagSequence, body)
}

// SNMPUser is the version 3 user that traps are sent as.
type SNMPUser struct {
	Name string
	// Auth is "SHA" or "SHA-256"; encryption is always AES with 128 bits.
	Auth               string
	AuthPass, PrivPass string
}

// usm encodes messages of version 3 for one user and one engine: the sender's
// own, which is the authority for traps.
type usm struct {
	user     string
	engine   []byte
	newHash  func() hash.Hash
	macLen   int
	authKey  []byte
	block    cipher.Block
	nextSalt uint64
}

func newUSM(u SNMPUser, engine []byte) (*usm, error) {
	m := &usm{user: u.Name, engine: engine}
	switch u.Auth {
	case "SHA":
		m.newHash, m.macLen = sha1.New, 12
	case "SHA-256":
		m.newHash, m.macLen = sha256.New, 24
	default:
		return nil, fmt.Errorf("authentication %q is not SHA or SHA-256", u.Auth)
	}
	if len(u.AuthPass) < 8 || len(u.PrivPass) < 8 {
		return nil, fmt.Errorf("pass phrases of user %q have fewer than 8 characters", u.Name)
	}
	m.authKey = m.localize(u.AuthPass)
	var err error
	m.block, err = aes.NewCipher(m.localize(u.PrivPass)[:16])
	return m, err
}

// localize makes a key of a pass phrase (RFC 3414 appendix A.2).
func (m *usm) localize(pass string) []byte {
	h := m.newHash()
	chunk := make([]byte, 0, 64*len(pass))
	for range 64 {
		chunk = append(chunk, pass...)
	}
	for left := 1 << 20; left > 0; left -= len(chunk) {
		h.Write(chunk[:min(left, len(chunk))])
	}
	ku := h.Sum(nil)
	h.Reset()
	h.Write(ku)
	h.Write(m.engine)
	h.Write(ku)
	return h.Sum(nil)
}

// appendV3 appends a whole authenticated and encrypted trap. The engine has
// booted once, and uptime (hundredths) gives its time.
func (m *usm) appendV3(dst []byte, id, uptime uint32, text []byte) []byte {
	const boots = 1
	seconds := uptime / 100

	scoped := make([]byte, 0, 160+len(text))
	scoped = appendTLV(scoped, tagOctets, m.engine)
	scoped = appendTLV(scoped, tagOctets, nil) // context name
	scoped = appendPDU(scoped, tagTrap, id, uptime, text)
	plain := appendTLV(make([]byte, 0, 8+len(scoped)), tagSequence, scoped)

	m.nextSalt++
	var iv [16]byte
	binary.BigEndian.PutUint32(iv[0:], boots)
	binary.BigEndian.PutUint32(iv[4:], seconds)
	binary.BigEndian.PutUint64(iv[8:], m.nextSalt)
	cipher.NewCFBEncrypter(m.block, iv[:]).XORKeyStream(plain, plain) //nolint:staticcheck // RFC 3826 is CFB

	params := make([]byte, 0, 128)
	params = appendTLV(params, tagOctets, m.engine)
	params = appendUint(params, tagInteger, boots)
	params = appendUint(params, tagInteger, seconds)
	params = appendTLV(params, tagOctets, []byte(m.user))
	params = appendTLV(params, tagOctets, make([]byte, m.macLen))
	macEnd := len(params)
	params = appendTLV(params, tagOctets, iv[8:])

	header := make([]byte, 0, 32)
	header = appendUint(header, tagInteger, id)
	header = appendUint(header, tagInteger, 65507)      // largest message that is taken
	header = appendTLV(header, tagOctets, []byte{0x03}) // authenticated, encrypted, no report
	header = appendUint(header, tagInteger, 3)          // the user-based model
	body := make([]byte, 0, 256+len(plain))
	body = appendUint(body, tagInteger, 3) // version 3
	body = appendTLV(body, tagSequence, header)
	wrapped := appendTLV(nil, tagSequence, params)
	body = appendTLV(body, tagOctets, wrapped)
	// The digest stands at a known distance before the end of the parameters.
	macAt := len(body) - (len(params) - macEnd) - m.macLen
	body = appendTLV(body, tagOctets, plain)

	start := len(dst)
	dst = appendTLV(dst, tagSequence, body)
	macAt += len(dst) - start - len(body)
	msg := dst[start:]
	mac := hmac.New(m.newHash, m.authKey)
	mac.Write(msg)
	copy(msg[macAt:macAt+m.macLen], mac.Sum(nil))
	return dst
}

// responseID returns the request id of a version 2c response.
func responseID(b []byte) (id uint32, ok bool) {
	next := func(p []byte, tag byte) (content, rest []byte, ok bool) {
		if len(p) < 2 || p[0] != tag {
			return nil, nil, false
		}
		n, at := int(p[1]), 2
		if n >= 0x80 {
			k := n & 0x7f
			if k > 2 || len(p) < 2+k {
				return nil, nil, false
			}
			n = 0
			for _, x := range p[2 : 2+k] {
				n = n<<8 | int(x)
			}
			at += k
		}
		if len(p) < at+n {
			return nil, nil, false
		}
		return p[at : at+n], p[at+n:], true
	}
	b, _, ok = next(b, tagSequence)
	if !ok {
		return 0, false
	}
	for _, tag := range []byte{tagInteger, tagOctets} {
		if _, b, ok = next(b, tag); !ok {
			return 0, false
		}
	}
	if b, _, ok = next(b, tagResponse); !ok {
		return 0, false
	}
	v, _, ok := next(b, tagInteger)
	if !ok || len(v) > 5 {
		return 0, false
	}
	for _, x := range v {
		id = id<<8 | uint32(x)
	}
	return id, true
}
