package witness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// sealPrefix begins every checksummed file; the digit is the format.
const sealPrefix = "futago-witness/1 sha256="

// maxSealed bounds a sealed file, in bytes.
const maxSealed = 1 << 20

var (
	errSealFormat = errors.New("not a file of a futago witness")
	errSealSum    = errors.New("checksum does not match")
)

// seal puts a line with the checksum before payload.
func seal(payload []byte) []byte {
	sum := sha256.Sum256(payload)
	return append(fmt.Appendf(nil, "%s%x\n", sealPrefix, sum), payload...)
}

// unseal checks what seal wrote and returns the payload.
func unseal(data []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(data, []byte(sealPrefix))
	if !ok {
		return nil, errSealFormat
	}
	line, payload, ok := bytes.Cut(rest, []byte("\n"))
	if !ok || len(line) != hex.EncodedLen(sha256.Size) {
		return nil, errSealFormat
	}
	var want [sha256.Size]byte
	if _, err := hex.Decode(want[:], line); err != nil {
		return nil, errSealFormat
	}
	if sha256.Sum256(payload) != want {
		return nil, errSealSum
	}
	return payload, nil
}
