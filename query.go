package futago

import (
	"net/netip"
	"time"
)

// MaxPage is the largest page of events that a query may ask for.
const MaxPage = 1000

// EventQuery selects events. The zero value selects the newest.
type EventQuery struct {
	// From and To limit Event.At, From inclusive and To exclusive; zero is open.
	From, To time.Time
	Kinds    []Kind
	// MaxSeverity keeps events at least this severe (a smaller number is more
	// severe); nil keeps all.
	MaxSeverity *Severity
	// Source keeps events from addresses in the prefix; the zero prefix keeps all.
	Source netip.Prefix
	// Host keeps events whose message names this host, compared without case.
	Host string
	// Text is a full-text search: words that must all occur, "quoted phrases",
	// and word* for a beginning.
	Text string
	// Before and After are cursors: event ids, both exclusive, 0 for none.
	Before, After uint64
	// Ascending gives the oldest first, for following; the default is the newest first.
	Ascending bool
	// Limit is the size of the page, 1 to MaxPage; 0 means 100.
	Limit int
}

// EventPage is one page of events.
type EventPage struct {
	Events []Event `json:"events"`
	// Next is the cursor of the next page (Before, or After when ascending),
	// 0 when there is none.
	Next uint64 `json:"next,omitempty"`
	// Complete is false when the search ran out of time before the page was
	// full; Next goes on from there.
	Complete bool `json:"complete"`
}

// ParsePrefix reads an address prefix, or a single address as one of full length.
func ParsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, Errorf(CodeInvalid, "%q is no address", s).WithAction("write it like 192.0.2.1 or 192.0.2.0/24")
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}
