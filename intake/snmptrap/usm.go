package snmptrap

import (
	"crypto/hmac"
	"fmt"
	"slices"
	"sync"

	"github.com/futago/futago"
)

// maxEngines bounds the localized keys kept for each user. Making one again
// takes two short hashes, so a flood of invented engine ids costs little.
const maxEngines = 16384

// user is one configured user of version 3.
type user struct {
	name string
	auth *authProtocol // nil: none
	priv *privProtocol // nil: none
	open func(futago.Secret) (string, error)

	mu       sync.Mutex
	authPass futago.Secret
	privPass futago.Secret
	master   [2][]byte // keys before localizing: authentication, privacy
	engines  map[string]*engineKeys
	problem  error // the settings of this user are wrong
}

// engineKeys are a user's keys for one authoritative engine.
type engineKeys struct {
	auth []byte
	once sync.Once
	priv *privKey // after once; nil when err is set
	err  error
}

func newUser(u futago.SNMPUser, open func(futago.Secret) (string, error)) *user {
	c := &user{
		name: u.Name, open: open, authPass: u.AuthPass, privPass: u.PrivPass,
		engines: make(map[string]*engineKeys),
	}
	if u.Auth != "" {
		if c.auth = authProtocols[u.Auth]; c.auth == nil {
			c.problem = fmt.Errorf("user %q has the unknown authentication protocol %q", u.Name, u.Auth)
		}
	}
	if u.Priv != "" {
		if c.priv = privProtocols[u.Priv]; c.priv == nil {
			c.problem = fmt.Errorf("user %q has the unknown privacy protocol %q", u.Name, u.Priv)
		} else if u.Auth == "" {
			c.problem = fmt.Errorf("user %q has a privacy protocol and no authentication protocol", u.Name)
		}
	}
	return c
}

// same reports whether u was made from the settings s.
func (u *user) same(s futago.SNMPUser) bool {
	authName, privName := "", ""
	if u.auth != nil {
		authName = u.auth.name
	}
	if u.priv != nil {
		privName = u.priv.name
	}
	return u.problem == nil && u.name == s.Name && authName == s.Auth && privName == s.Priv &&
		u.authPass == s.AuthPass && u.privPass == s.PrivPass
}

// level is the security level of the user's own messages, as bits of msgFlags.
func (u *user) level() byte {
	switch {
	case u.priv != nil:
		return flagAuth | flagPriv
	case u.auth != nil:
		return flagAuth
	}
	return 0
}

// key opens a passphrase and makes the key before localizing. The caller
// holds mu. A secret that cannot be opened is tried again with the next message.
func (u *user) key(i int, s futago.Secret, what string) ([]byte, error) {
	if u.master[i] == nil {
		pass, err := u.open(s)
		if err != nil {
			return nil, fmt.Errorf("the %s passphrase of user %q cannot be opened: %w", what, u.name, err)
		}
		if pass == "" {
			return nil, fmt.Errorf("user %q has no %s passphrase", u.name, what)
		}
		u.master[i] = passwordKey(u.auth, []byte(pass))
	}
	return u.master[i], nil
}

// keys returns the keys for an engine. u.auth must be set.
func (u *user) keys(engineID []byte) (*engineKeys, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if k := u.engines[string(engineID)]; k != nil {
		return k, nil
	}
	master, err := u.key(0, u.authPass, "authentication")
	if err != nil {
		return nil, err
	}
	if len(u.engines) >= maxEngines {
		clear(u.engines)
	}
	k := &engineKeys{auth: localize(u.auth, master, engineID)}
	u.engines[string(engineID)] = k
	return k, nil
}

// privKey returns the key for privacy of an engine. u.priv must be set.
func (u *user) privKey(k *engineKeys, engineID []byte) (*privKey, error) {
	u.mu.Lock()
	master, err := u.key(1, u.privPass, "privacy")
	u.mu.Unlock()
	if err != nil {
		return nil, err
	}
	k.once.Do(func() {
		key := localize(u.auth, master, engineID)
		if u.priv.extend != nil {
			key = u.priv.extend(u.auth, key, engineID, u.priv.key)
		}
		k.priv, k.err = newPrivKey(u.priv, key)
	})
	return k.priv, k.err
}

// verify reports whether the digest of a message is the user's.
func (u *user) verify(k *engineKeys, raw []byte, m *message) bool {
	if len(m.auth) != u.auth.digest {
		return false
	}
	return hmac.Equal(u.auth.digestOf(k.auth, raw, m.authAt), m.auth)
}

// fault says why a version 3 message was not accepted. Each has a counter of
// RFC 3414 section 5, which a report names.
type fault uint8

const (
	faultNone             fault = 0
	faultUnsupportedLevel fault = 1 // usmStatsUnsupportedSecLevels
	faultNotInTimeWindow  fault = 2
	faultUnknownUser      fault = 3
	faultUnknownEngine    fault = 4
	faultWrongDigest      fault = 5
	faultDecryption       fault = 6
)

// opened is a version 3 message after USM.
type opened struct {
	user  *user // nil when unknown
	keys  *engineKeys
	level byte
	scopedPDU
	// inClear marks an authenticated message that was not encrypted although
	// its user is set up for privacy.
	inClear bool
	fault   fault
	reason  string // for the operator, "" when fault is faultNone
}

// open checks and decrypts a version 3 message: RFC 3414 section 3.2 without
// the steps that concern time. On a fault, what could be read is in the result.
func (t *userTable) open(raw []byte, m *message) (o opened) {
	o.level = m.flags & (flagAuth | flagPriv)
	clearText := func() {
		if m.flags&flagPriv == 0 && o.raw == nil {
			o.scopedPDU, _ = parseScoped(m.data) // best effort, for the report and the identity
		}
	}
	users := t.byName[string(m.user)]
	if len(users) == 0 {
		o.fault, o.reason = faultUnknownUser, fmt.Sprintf("unknown user %q", m.user)
		clearText()
		return o
	}
	for _, u := range users {
		o.user = u
		o.fault, o.reason = o.try(u, raw, m)
		if o.fault == faultNone {
			return o
		}
	}
	clearText()
	return o
}

func (o *opened) try(u *user, raw []byte, m *message) (fault, string) {
	if u.problem != nil {
		return faultUnsupportedLevel, u.problem.Error()
	}
	switch want := u.level(); {
	case o.level&^want != 0:
		return faultUnsupportedLevel, fmt.Sprintf("%s from user %q, who is set up for %s", m.level(), u.name, levelName(want))
	case want&flagAuth != 0 && o.level&flagAuth == 0:
		// RFC 3414 lets it pass and leaves the refusal to access control (RFC
		// 3415). Here a user with a passphrase has to show that he knows it.
		return faultUnsupportedLevel, fmt.Sprintf("%s from user %q, who must use %s", m.level(), u.name, levelName(want))
	}
	data := m.data
	if o.level&flagAuth != 0 {
		k, err := u.keys(m.engineID)
		if err != nil {
			return faultUnsupportedLevel, err.Error()
		}
		o.keys = k
		if !u.verify(k, raw, m) {
			return faultWrongDigest, fmt.Sprintf("wrong digest for user %q: passphrase, protocol or engine id differs", u.name)
		}
	}
	if o.level&flagPriv != 0 {
		c := newCursor(m.data)
		sealed, err := c.octets()
		if err != nil {
			return faultDecryption, fmt.Sprintf("encrypted data: %v", err)
		}
		pk, err := u.privKey(o.keys, m.engineID)
		if err != nil {
			return faultUnsupportedLevel, err.Error()
		}
		if data, err = pk.decrypt(uint32(m.boots), uint32(m.time), m.salt, sealed); err != nil {
			return faultDecryption, err.Error()
		}
	}
	s, err := parseScoped(data)
	if err != nil {
		if o.level&flagPriv != 0 {
			return faultDecryption, fmt.Sprintf("decrypted data is not readable for user %q: privacy passphrase or protocol differs (%v)", u.name, err)
		}
		return faultDecryption, err.Error()
	}
	o.scopedPDU = s
	o.inClear = u.priv != nil && o.level&flagPriv == 0
	return faultNone, ""
}

func levelName(flags byte) string {
	m := message{version: versionV3, flags: flags}
	return m.level()
}

// userTable holds the users of the settings.
type userTable struct {
	settings []futago.SNMPUser // what it was made from
	byName   map[string][]*user
}

// newUserTable makes the table, taking over users of the one before whose
// settings are unchanged, with their keys.
func newUserTable(settings []futago.SNMPUser, before *userTable, open func(futago.Secret) (string, error)) *userTable {
	t := &userTable{settings: slices.Clone(settings), byName: make(map[string][]*user)}
	for _, su := range settings {
		var u *user
		if before != nil {
			for _, old := range before.byName[su.Name] {
				if old.same(su) {
					u = old
				}
			}
		}
		if u == nil {
			u = newUser(su, open)
		}
		t.byName[su.Name] = append(t.byName[su.Name], u)
	}
	return t
}
