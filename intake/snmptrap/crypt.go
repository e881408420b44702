package snmptrap

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// authProtocol is an authentication protocol of USM.
type authProtocol struct {
	name string
	hash func() hash.Hash
	// digest is the length in bytes that HMAC's result is cut to.
	digest int
}

// The authentication protocols: RFC 3414 sections 6 and 7, RFC 7860 section 4.
var authProtocols = map[string]*authProtocol{
	"MD5":     {"MD5", md5.New, 12},
	"SHA":     {"SHA", sha1.New, 12},
	"SHA-224": {"SHA-224", sha256.New224, 16},
	"SHA-256": {"SHA-256", sha256.New, 24},
	"SHA-384": {"SHA-384", sha512.New384, 32},
	"SHA-512": {"SHA-512", sha512.New, 48},
}

// privProtocol is a privacy protocol of USM.
type privProtocol struct {
	name string
	// key is the number of bytes that are taken from the localized key.
	key int
	// extend lengthens a localized key that is too short; nil where that
	// cannot happen.
	extend func(a *authProtocol, key, engineID []byte, size int) []byte
	// aes is false for DES.
	aes bool
}

// The privacy protocols: RFC 3414 section 8 (DES-CBC), RFC 3826 (AES-128-CFB).
// The longer AES keys were never standardised. Two ways of making them are in
// use: draft-blumenthal-aes-usm-04, and draft-reeder-snmpv3-usm-3desede-00,
// which Cisco took over.
var privProtocols = map[string]*privProtocol{
	"DES":       {"DES", 16, nil, false},
	"AES":       {"AES", 16, nil, true},
	"AES-192":   {"AES-192", 24, extendBlumenthal, true},
	"AES-256":   {"AES-256", 32, extendBlumenthal, true},
	"AES-192-C": {"AES-192-C", 24, extendReeder, true},
	"AES-256-C": {"AES-256-C", 32, extendReeder, true},
}

// passwordLength is how much repeated text goes into a key (RFC 3414 A.2).
const passwordLength = 1 << 20

// passwordKey makes the user's key from a passphrase, which must not be empty.
// It takes milliseconds; callers keep the result.
func passwordKey(a *authProtocol, pass []byte) []byte {
	h := a.hash()
	// A whole number of repetitions, so that most of it is written in large pieces.
	chunk := make([]byte, 0, 4096+len(pass))
	for len(chunk) < 4096 {
		chunk = append(chunk, pass...)
	}
	for left := passwordLength; left > 0; left -= len(chunk) {
		h.Write(chunk[:min(left, len(chunk))])
	}
	return h.Sum(nil)
}

// localize binds a user's key to an engine (RFC 3414 section 2.6).
func localize(a *authProtocol, key, engineID []byte) []byte {
	h := a.hash()
	h.Write(key)
	h.Write(engineID)
	h.Write(key)
	return h.Sum(nil)
}

// extendBlumenthal appends digests of the key so far until it is long enough.
func extendBlumenthal(a *authProtocol, key, _ []byte, size int) []byte {
	for len(key) < size {
		h := a.hash()
		h.Write(key)
		key = h.Sum(key)
	}
	return key
}

// extendReeder appends keys made from the one before as if it were a
// passphrase. It costs as much as passwordKey, so it is done for authenticated
// messages alone.
func extendReeder(a *authProtocol, key, engineID []byte, size int) []byte {
	last := key
	for len(key) < size {
		last = localize(a, passwordKey(a, last), engineID)
		key = append(key, last...)
	}
	return key
}

// digestOf computes the digest of a message whose digest field, at position at
// with the protocol's length, counts as zero.
func (a *authProtocol) digestOf(key, msg []byte, at int) []byte {
	var zero [64]byte
	m := hmac.New(a.hash, key)
	m.Write(msg[:at])
	m.Write(zero[:a.digest])
	m.Write(msg[at+a.digest:])
	var sum [64]byte
	return m.Sum(sum[:0])[:a.digest]
}

// privKey is what encrypts and decrypts for one user and engine.
type privKey struct {
	proto *privProtocol
	block cipher.Block
	preIV []byte // DES
}

func newPrivKey(p *privProtocol, key []byte) (*privKey, error) {
	k := &privKey{proto: p}
	var err error
	if p.aes {
		k.block, err = aes.NewCipher(key[:p.key])
	} else {
		k.preIV = key[8:16]
		k.block, err = des.NewCipher(key[:8])
	}
	if err != nil {
		return nil, fmt.Errorf("%s key: %w", p.name, err)
	}
	return k, nil
}

var (
	errSalt    = errors.New("privacy parameters are not eight bytes")
	errPadding = errors.New("encrypted data is no multiple of eight bytes")
)

// iv is the initialisation vector: of RFC 3826 section 3.1.2.1 for AES, of RFC
// 3414 section 8.1.1.1 for DES.
func (k *privKey) iv(boots, time uint32, salt []byte) []byte {
	if k.proto.aes {
		iv := make([]byte, 0, 16)
		iv = binary.BigEndian.AppendUint32(iv, boots)
		iv = binary.BigEndian.AppendUint32(iv, time)
		return append(iv, salt...)
	}
	iv := make([]byte, 8)
	for i := range iv {
		iv[i] = k.preIV[i] ^ salt[i]
	}
	return iv
}

// decrypt returns the clear text of data in memory of its own.
func (k *privKey) decrypt(boots, time uint32, salt, data []byte) ([]byte, error) {
	if len(salt) != 8 {
		return nil, errSalt
	}
	out := make([]byte, len(data))
	iv := k.iv(boots, time, salt)
	if k.proto.aes {
		cfb(k.block, iv, out, data, true)
		return out, nil
	}
	if len(data)%8 != 0 {
		return nil, errPadding
	}
	cipher.NewCBCDecrypter(k.block, iv).CryptBlocks(out, data)
	return out, nil
}

// encrypt returns data encrypted, padded with zeros where the protocol needs it.
func (k *privKey) encrypt(boots, time uint32, salt, data []byte) []byte {
	iv := k.iv(boots, time, salt)
	if k.proto.aes {
		out := make([]byte, len(data))
		cfb(k.block, iv, out, data, false)
		return out
	}
	out := make([]byte, (len(data)+7)/8*8)
	copy(out, data)
	cipher.NewCBCEncrypter(k.block, iv).CryptBlocks(out, out)
	return out
}

// cfb is the cipher feedback mode with full blocks, which RFC 3826 asks for.
// The one in package cipher is deprecated, as CFB gives no integrity; here the
// digest does. iv is overwritten; dst and src must not overlap.
func cfb(b cipher.Block, iv, dst, src []byte, decrypt bool) {
	size := b.BlockSize()
	fed := dst
	if decrypt {
		fed = src
	}
	var pad [16]byte
	for at := 0; at < len(src); at += size {
		b.Encrypt(pad[:size], iv)
		n := min(size, len(src)-at)
		for i := range n {
			dst[at+i] = src[at+i] ^ pad[i]
		}
		iv = fed[at:min(at+size, len(fed))]
		if len(iv) < size {
			return
		}
	}
}
