package syslog

import (
	"strings"
	"unicode/utf8"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/charset"
)

const utf8BOM = "\xef\xbb\xbf"

func validUTF8(s string) bool { return utf8.ValidString(s) }

// converter makes valid UTF-8 of the parts of a message.
type converter struct {
	s    string // the message
	name string
	// plain says that the message is valid UTF-8 without NUL, so that each
	// part, which begins and ends at ASCII characters, can be used as it is.
	plain bool
}

func (c *converter) text(s span) string {
	if s.empty() {
		return ""
	}
	if c.plain {
		return c.s[s.from:s.to]
	}
	return c.string(c.s[s.from:s.to])
}

func (c *converter) string(s string) string {
	s = charset.DecodeAs([]byte(s), c.name)
	return strings.ReplaceAll(s, "\x00", "␀")
}

func (c *converter) elements(es []futago.SDElement) []futago.SDElement {
	if c.plain {
		return es
	}
	for i := range es {
		es[i].ID = c.string(es[i].ID)
		for j := range es[i].Params {
			q := &es[i].Params[j]
			q.Name, q.Value = c.string(q.Name), c.string(q.Value)
		}
	}
	return es
}
