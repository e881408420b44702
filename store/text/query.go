package text

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/futago/futago"
)

// MaxClauses bounds a query: what goes beyond is ignored.
const MaxClauses = 16

// Clause asks for tokens that follow each other without a gap in one field.
type Clause struct {
	Tokens []string
	// Prefix says that the last token may go on.
	Prefix bool
}

// Query is what the operator typed: all clauses must be found. The empty query
// finds everything. No input is an error.
type Query []Clause

// Parse reads words, "quoted phrases" and a trailing * for a prefix. A word
// that falls into several tokens (eth0/1) is a phrase of them. A quote that is
// not closed ends with the text.
func Parse(s string) Query {
	var q Query
	for len(s) > 0 && len(q) < MaxClauses {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		var part string
		if rest, ok := strings.CutPrefix(s, `"`); ok {
			part, s, _ = strings.Cut(rest, `"`)
			if r, ok := strings.CutPrefix(s, "*"); ok {
				part, s = part+"*", r
			}
		} else if i := strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '"' }); i >= 0 {
			part, s = s[:i], s[i:]
		} else {
			part, s = s, ""
		}
		if c, ok := clause(part); ok {
			q = append(q, c)
		}
	}
	return q
}

func clause(s string) (Clause, bool) {
	var c Clause
	body := strings.TrimRight(s, "*")
	Tokens(body, nil, func(t []byte) { c.Tokens = append(c.Tokens, string(t)) })
	if len(c.Tokens) == 0 {
		return c, false
	}
	last := c.Tokens[len(c.Tokens)-1]
	r, n := utf8.DecodeRuneInString(last)
	switch {
	case CJK(r) && n == len(last):
		// The last character of a run: in the text the run may go on, so that
		// this is the beginning of a pair there. After a pair it says nothing
		// that the pair does not.
		if k := len(c.Tokens) - 1; k > 0 && strings.HasSuffix(c.Tokens[k-1], last) && pair(c.Tokens[k-1]) {
			c.Tokens = c.Tokens[:k]
		} else {
			c.Prefix = true
		}
	case !CJK(r) && len(body) < len(s):
		c.Prefix = true
	}
	return c, true
}

func pair(tok string) bool {
	r, n := utf8.DecodeRuneInString(tok)
	return CJK(r) && n < len(tok)
}

// Matcher decides whether a trap matches a query. It is for one goroutine.
type Matcher struct {
	q       Query
	missing []bool
	left    int
	doc     []byte // tokens of one field, one after the other
	ends    []int
	scratch []byte
}

// NewMatcher makes a matcher for q.
func NewMatcher(q Query) *Matcher {
	return &Matcher{q: q, missing: make([]bool, len(q))}
}

// Match reports whether every clause is found in some field of the trap.
func (m *Matcher) Match(t *futago.Trap) bool {
	m.left = len(m.q)
	for i := range m.missing {
		m.missing[i] = true
	}
	if m.left > 0 {
		Fields(t, m.field)
	}
	return m.left == 0
}

func (m *Matcher) field(s string) {
	if m.left == 0 || s == "" {
		return
	}
	m.doc, m.ends = m.doc[:0], m.ends[:0]
	m.scratch = Tokens(s, m.scratch, func(t []byte) {
		m.doc = append(m.doc, t...)
		m.ends = append(m.ends, len(m.doc))
	})
	for i := range m.q {
		if m.missing[i] && m.find(&m.q[i]) {
			m.missing[i] = false
			m.left--
		}
	}
}

func (m *Matcher) token(i int) []byte {
	if i == 0 {
		return m.doc[:m.ends[0]]
	}
	return m.doc[m.ends[i-1]:m.ends[i]]
}

func (m *Matcher) find(c *Clause) bool {
	for at := 0; at+len(c.Tokens) <= len(m.ends); at++ {
		if m.at(c, at) {
			return true
		}
	}
	return false
}

func (m *Matcher) at(c *Clause, at int) bool {
	last := len(c.Tokens) - 1
	for k, want := range c.Tokens {
		got := m.token(at + k)
		if k == last && c.Prefix {
			return bytes.HasPrefix(got, []byte(want))
		}
		if string(got) != want {
			return false
		}
	}
	return true
}

// Fields calls visit for every part of a trap that can be searched. The parts
// repeat each other to some degree: a message line holds most of them.
func Fields(t *futago.Trap, visit func(string)) {
	visit(t.Message)
	visit(t.Host)
	if y := t.Syslog; y != nil {
		visit(y.App)
		visit(y.ProcID)
		visit(y.MsgID)
		for i := range y.StructuredData {
			visit(y.StructuredData[i].ID)
			for _, p := range y.StructuredData[i].Params {
				visit(p.Name)
				visit(p.Value)
			}
		}
	}
	if n := t.SNMP; n != nil {
		visit(n.TrapOID)
		visit(n.Enterprise)
		visit(n.AgentAddress)
		for _, v := range n.Varbinds {
			visit(v.OID)
			visit(v.Value)
		}
	}
	if u := t.Custom; u != nil {
		visit(u.FacilityID)
		visit(u.Key)
		visit(u.Msg)
	}
	if o := t.Own; o != nil {
		visit(string(o.Member))
		visit(o.Topic)
	}
}
