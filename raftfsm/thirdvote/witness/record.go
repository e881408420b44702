package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// nonceForm keeps a nonce fit for a header.
var nonceForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// record is one state of a cluster's register.
type record struct {
	version uint64
	nonce   string
	raw     []byte // compact JSON, as the manager wrote it
}

// parseRecord reads a JSON object with at least "version" (1 or more) and
// "nonce" (1 to 128 letters, digits, hyphens and underscores).
func parseRecord(data []byte) (*record, error) {
	var head struct {
		Version uint64 `json:"version"`
		Nonce   string `json:"nonce"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if head.Version == 0 {
		return nil, errors.New("record: version must be 1 or more")
	}
	if !nonceForm.MatchString(head.Nonce) {
		return nil, errors.New("record: nonce must be 1 to 128 letters, digits, hyphens and underscores")
	}
	var raw bytes.Buffer
	if err := json.Compact(&raw, data); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return &record{version: head.Version, nonce: head.Nonce, raw: raw.Bytes()}, nil
}

// etag is the strong entity tag (RFC 9110 section 8.8.3).
func (r *record) etag() string {
	return `"` + strconv.FormatUint(r.version, 10) + "-" + r.nonce + `"`
}

// same reports whether both are the same state, byte for byte.
func (r *record) same(o *record) bool {
	return r.version == o.version && r.nonce == o.nonce && bytes.Equal(r.raw, o.raw)
}
