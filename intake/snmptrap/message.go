package snmptrap

import (
	"errors"
	"fmt"
)

// Versions as they stand in a message.
const (
	versionV1  = 0
	versionV2c = 1
	versionV3  = 3
)

// Bits of msgFlags (RFC 3412 section 6.4).
const (
	flagAuth       = 0x01
	flagPriv       = 0x02
	flagReportable = 0x04
)

// modelUSM is the User-based Security Model (RFC 3414).
const modelUSM = 3

// maxEngineID is the longest engine id (RFC 3411, SnmpEngineID).
const maxEngineID = 32

// message is a message as read, before any check of who sent it. All slices
// are part of the buffer it was read from.
type message struct {
	version   int
	community []byte

	// Version 3 alone.
	msgID    int64
	maxSize  int64
	flags    byte
	model    int64
	engineID []byte
	boots    int64
	time     int64
	user     []byte
	auth     []byte // msgAuthenticationParameters
	authAt   int    // where auth stands in the buffer
	salt     []byte // msgPrivacyParameters
	// data is what follows the header of version 3: the scoped PDU as an
	// element, or its encrypted bytes when flagPriv is set. For the other
	// versions it is the PDU as an element.
	data []byte
	// trailing counts bytes after the message.
	trailing int
}

// level is the name of the security level.
func (m *message) level() string {
	switch {
	case m.version != versionV3:
		return ""
	case m.flags&flagPriv != 0:
		return "authPriv"
	case m.flags&flagAuth != 0:
		return "authNoPriv"
	}
	return "noAuthNoPriv"
}

// parseMessage reads the outer part of a message into m. On an error m holds
// what was read so far.
func parseMessage(b []byte, m *message) error {
	outer := newCursor(b)
	c, err := outer.expect(tagSequence)
	if err != nil {
		return fmt.Errorf("message: %w", err)
	}
	m.trailing = len(b) - outer.pos
	v, err := c.integer()
	if err != nil {
		return fmt.Errorf("version: %w", err)
	}
	switch v {
	case versionV1, versionV2c:
		m.version = int(v)
		if m.community, err = c.octets(); err != nil {
			return fmt.Errorf("community: %w", err)
		}
		m.data = c.rest()
		return nil
	case versionV3:
		m.version = versionV3
		return m.parseV3(&c)
	}
	m.version = -1
	return fmt.Errorf("version %d is unknown", v)
}

// parseV3 reads msgGlobalData, the security parameters and finds the data
// (RFC 3412 section 6, RFC 3414 section 2.4).
func (m *message) parseV3(c *cursor) error {
	g, err := c.expect(tagSequence)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if m.msgID, err = g.integer(); err != nil {
		return fmt.Errorf("message id: %w", err)
	}
	if m.maxSize, err = g.integer(); err != nil {
		return fmt.Errorf("message size: %w", err)
	}
	flags, err := g.octets()
	if err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	if len(flags) != 1 {
		return fmt.Errorf("flags have %d bytes", len(flags))
	}
	m.flags = flags[0]
	if m.model, err = g.integer(); err != nil {
		return fmt.Errorf("security model: %w", err)
	}
	params, err := c.octets()
	if err != nil {
		return fmt.Errorf("security parameters: %w", err)
	}
	m.data = c.rest()
	if m.model != modelUSM {
		return fmt.Errorf("security model %d is not supported", m.model)
	}
	if m.flags&(flagAuth|flagPriv) == flagPriv {
		return errors.New("encrypted without authentication")
	}
	at := c.pos - len(params)
	s := cursor{buf: c.buf, pos: at, end: at + len(params)}
	if s, err = s.expect(tagSequence); err != nil {
		return fmt.Errorf("security parameters: %w", err)
	}
	return m.parseUSM(&s)
}

func (m *message) parseUSM(s *cursor) (err error) {
	if m.engineID, err = s.octets(); err != nil {
		return fmt.Errorf("engine id: %w", err)
	}
	if len(m.engineID) > maxEngineID {
		return fmt.Errorf("engine id has %d bytes", len(m.engineID))
	}
	if m.boots, err = s.integer(); err != nil {
		return fmt.Errorf("engine boots: %w", err)
	}
	if m.time, err = s.integer(); err != nil {
		return fmt.Errorf("engine time: %w", err)
	}
	const maxInt32 = 1<<31 - 1
	if m.boots < 0 || m.boots > maxInt32 || m.time < 0 || m.time > maxInt32 {
		return errors.New("engine boots or time out of range")
	}
	if m.user, err = s.octets(); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	if len(m.user) > 32 {
		return fmt.Errorf("user name has %d bytes", len(m.user))
	}
	if m.auth, err = s.octets(); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	m.authAt = s.pos - len(m.auth)
	if m.salt, err = s.octets(); err != nil {
		return fmt.Errorf("privacy parameters: %w", err)
	}
	return nil
}

// scopedPDU is the inner part of a version 3 message in the clear.
type scopedPDU struct {
	raw             []byte // the element
	contextEngineID []byte
	contextName     []byte
	pdu             []byte // as an element
}

// parseScoped reads a scoped PDU. Bytes after it, the padding of DES, are
// left out of raw.
func parseScoped(b []byte) (s scopedPDU, err error) {
	outer := newCursor(b)
	c, err := outer.expect(tagSequence)
	if err != nil {
		return s, fmt.Errorf("scoped PDU: %w", err)
	}
	s.raw = b[:outer.pos]
	if s.contextEngineID, err = c.octets(); err != nil {
		return s, fmt.Errorf("context engine id: %w", err)
	}
	if s.contextName, err = c.octets(); err != nil {
		return s, fmt.Errorf("context name: %w", err)
	}
	s.pdu = c.rest()
	return s, nil
}
