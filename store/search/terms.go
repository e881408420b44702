package search

import (
	"strings"

	"github.com/futago/futago"
	"github.com/futago/futago/store"
	"github.com/futago/futago/store/text"
)

// Classes of terms, the first byte of each.
const (
	classHost     = 'h' // lower-case name as in Trap.Host
	classKind     = 'k' // one byte
	classSource   = 's' // length of the address, address
	classSeverity = 'v' // one byte
	classWord     = 'w' // a token of package text
)

// maxTerm cuts long host names; what is found is verified against the row.
const maxTerm = 128

// termMaker makes the terms of events. It is for one goroutine.
type termMaker struct {
	buf  []byte
	toks []byte
}

// terms calls emit for each term of an event, some of them more than once.
// The slice is valid during the call alone.
func (m *termMaker) terms(e *store.EventRow, t *futago.Trap, emit func([]byte)) {
	emit(append(m.buf[:0], classKind, byte(e.Kind)))
	emit(append(m.buf[:0], classSeverity, byte(e.Severity)))
	if a := e.Source; a.IsValid() {
		b := a.AsSlice()
		emit(append(append(m.buf[:0], classSource, byte(len(b))), b...))
	}
	if t.Host != "" {
		emit(hostTerm(m.buf[:0], strings.ToLower(t.Host)))
	}
	text.Fields(t, func(s string) {
		m.toks = text.Tokens(s, m.toks, func(tok []byte) {
			m.buf = append(append(m.buf[:0], classWord), tok...)
			emit(m.buf)
		})
	})
}

func hostTerm(b []byte, host string) []byte {
	b = append(append(b, classHost), host...)
	return b[:min(len(b), maxTerm)]
}

// group is a condition: the event has a term in one of the spans.
type group struct {
	spans []span
	// weak groups hold for many events; when few candidates are left they are
	// cheaper to verify than to look up.
	weak bool
}

func exact(class byte, rest ...byte) span { return span{lo: append([]byte{class}, rest...)} }

func prefix(class byte, rest string) span {
	lo := append([]byte{class}, rest...)
	hi := append([]byte(nil), lo...)
	// The least text above all that begin with lo. The class byte is below 0xff,
	// so that there is one.
	for hi[len(hi)-1] == 0xff {
		hi = hi[:len(hi)-1]
	}
	hi[len(hi)-1]++
	return span{lo: lo, hi: hi}
}

// groups are the conditions that the index can decide. Every event that the
// filter wants meets them; the reverse does not hold.
func groups(f *store.Filter) (list []group) {
	one := func(s span) { list = append(list, group{spans: []span{s}}) }
	for _, c := range f.Text {
		for i, tok := range c.Tokens {
			if c.Prefix && i == len(c.Tokens)-1 {
				continue
			}
			one(exact(classWord, []byte(tok)...))
		}
	}
	if f.Host != "" {
		one(span{lo: hostTerm(nil, f.Host)})
	}
	if f.Source.IsValid() {
		lo, hi := f.SourceRange()
		n := byte(len(lo))
		one(span{
			lo: append([]byte{classSource, n}, lo...),
			hi: append(append([]byte{classSource, n}, hi...), 0),
		})
	}
	for _, c := range f.Text {
		if c.Prefix {
			one(prefix(classWord, c.Tokens[len(c.Tokens)-1]))
		}
	}
	if f.MaxSeverity != nil && *f.MaxSeverity < futago.SeverityDebug {
		g := group{weak: true}
		for v := range *f.MaxSeverity + 1 {
			g.spans = append(g.spans, exact(classSeverity, byte(v)))
		}
		list = append(list, g)
	}
	if len(f.Kinds) > 0 {
		g := group{weak: true}
		for _, k := range f.Kinds {
			g.spans = append(g.spans, exact(classKind, byte(k)))
		}
		list = append(list, g)
	}
	return list
}
