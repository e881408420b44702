package generate

import (
	"cmp"
	"container/heap"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/futago/futago"
)

// Flavour is a kind of trap in one of its shapes and transports.
type Flavour uint8

// The flavours.
const (
	SyslogBSD        Flavour = iota + 1 // RFC 3164 over UDP
	SyslogIETF                          // RFC 5424 over UDP
	SyslogBSDStream                     // RFC 3164 over TCP, one line each
	SyslogIETFStream                    // RFC 5424 over TCP, octets counted
	SyslogIETFTLS                       // RFC 5424 over TLS, octets counted
	SNMPv2c                             // trap, version 2c
	SNMPv3                              // trap, version 3, authenticated and encrypted
	SNMPInform                          // inform, version 2c, sent once
	Custom                              // custom trap with one element
)

var flavourNames = [...]string{
	"", "syslog-bsd", "syslog-ietf", "syslog-bsd-tcp", "syslog-ietf-tcp", "syslog-ietf-tls",
	"snmp-v2c", "snmp-v3", "snmp-inform", "custom",
}

// Flavours lists all flavours.
func Flavours() []Flavour {
	all := make([]Flavour, 0, len(flavourNames)-1)
	for i := 1; i < len(flavourNames); i++ {
		all = append(all, Flavour(i)) //nolint:gosec // nine of them
	}
	return all
}

// String returns the name used on the command line and in journals.
func (f Flavour) String() string {
	if f > 0 && int(f) < len(flavourNames) {
		return flavourNames[f]
	}
	return fmt.Sprintf("flavour(%d)", uint8(f))
}

// ParseFlavour is the inverse of [Flavour.String].
func ParseFlavour(s string) (Flavour, error) {
	if i := slices.Index(flavourNames[1:], s); i >= 0 {
		return Flavour(i + 1), nil //nolint:gosec // nine of them
	}
	return 0, fmt.Errorf("unknown flavour %q; use one of %v", s, flavourNames[1:])
}

// Kind is the kind of trap that a flavour is recorded as.
func (f Flavour) Kind() futago.Kind {
	switch f {
	case SNMPv2c, SNMPv3, SNMPInform:
		return futago.KindSNMPTrap
	case Custom:
		return futago.KindCustomTrap
	default:
		return futago.KindSyslog
	}
}

// Datagram reports whether a flavour is sent over UDP without an answer.
func (f Flavour) Datagram() bool {
	switch f {
	case SyslogBSD, SyslogIETF, SNMPv2c, SNMPv3:
		return true
	default:
		return false
	}
}

// Share is the weight of a flavour in a plan.
type Share struct {
	Flavour Flavour
	Weight  float64
}

// EvenMix gives the flavours the same weight; without arguments, all of them.
func EvenMix(f ...Flavour) []Share {
	if len(f) == 0 {
		f = Flavours()
	}
	mix := make([]Share, len(f))
	for i, x := range f {
		mix[i] = Share{x, 1}
	}
	return mix
}

// Plan says what is sent when. It is bounded: Count and Duration may both be
// given, and one of them must.
type Plan struct {
	Seed uint64
	// Rate is how many distinct traps begin per second, evenly spaced.
	Rate float64
	// Count is the number of distinct traps, Duration how long new ones begin.
	Count    int
	Duration time.Duration
	Mix      []Share // default: EvenMix()
	// Burst is the share of traps (0 to 1) that occur 2 to BurstMax times in
	// quick succession, BurstGap apart. Defaults: BurstMax 5, BurstGap 0.
	Burst    float64
	BurstMax int
	BurstGap time.Duration
	// Again is the share of traps that occur once more after AgainAfter plus 0 to
	// AgainSpread, and then perhaps yet again, with the same share.
	Again       float64
	AgainAfter  time.Duration
	AgainSpread time.Duration
}

// Item is one true occurrence of a trap.
type Item struct {
	At         time.Duration // since the start
	First      time.Duration // of the first occurrence
	Number     uint32        // of the trap, from 1
	Occurrence uint32        // of this number, from 1
	Flavour    Flavour
}

func (p Plan) validate() error {
	switch {
	case p.Rate <= 0:
		return fmt.Errorf("rate %v is not positive", p.Rate)
	case p.Count <= 0 && p.Duration <= 0:
		return fmt.Errorf("neither count nor duration is given")
	case p.Burst < 0 || p.Burst > 1 || p.Again < 0 || p.Again > 0.9:
		return fmt.Errorf("share of bursts %v is not within 0 and 1, or of returns %v not within 0 and 0.9", p.Burst, p.Again)
	}
	for _, s := range p.Mix {
		if s.Weight < 0 || s.Flavour == 0 || int(s.Flavour) >= len(flavourNames) {
			return fmt.Errorf("mix has weight %v for %v", s.Weight, s.Flavour)
		}
	}
	return nil
}

// Items yields the occurrences in the order of their times. The same plan
// yields the same items.
func (p Plan) Items() iter.Seq[Item] {
	if len(p.Mix) == 0 {
		p.Mix = EvenMix()
	}
	if p.BurstMax < 2 {
		p.BurstMax = 5
	}
	return func(yield func(Item) bool) {
		rng := rand.New(rand.NewPCG(p.Seed, 0x706c616e)) //nolint:gosec // not for security
		var total float64
		for _, s := range p.Mix {
			total += s.Weight
		}
		var pending itemHeap
		flush := func(until time.Duration) bool {
			for len(pending) > 0 && pending[0].At <= until {
				it, _ := heap.Pop(&pending).(Item)
				if !yield(it) {
					return false
				}
			}
			return true
		}
		for n := 1; p.Count <= 0 || n <= p.Count; n++ {
			at := time.Duration(float64(n-1) / p.Rate * float64(time.Second))
			if p.Duration > 0 && at >= p.Duration {
				break
			}
			pick, f := rng.Float64()*total, p.Mix[len(p.Mix)-1].Flavour
			for _, s := range p.Mix {
				if pick -= s.Weight; pick < 0 {
					f = s.Flavour
					break
				}
			}
			it := Item{At: at, First: at, Number: uint32(n), Flavour: f} //nolint:gosec // far below 2^32
			for {
				times := 1
				if rng.Float64() < p.Burst {
					times = 2 + rng.IntN(p.BurstMax-1)
				}
				for range times {
					it.Occurrence++
					heap.Push(&pending, it)
					it.At += p.BurstGap
				}
				if rng.Float64() >= p.Again {
					break
				}
				it.At += p.AgainAfter
				if p.AgainSpread > 0 {
					it.At += time.Duration(rng.Int64N(int64(p.AgainSpread)))
				}
			}
			if !flush(at) {
				return
			}
		}
		flush(1<<63 - 1)
	}
}

// itemHeap orders by time, number and occurrence.
type itemHeap []Item

func (h itemHeap) Len() int { return len(h) }

func (h itemHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Occurrence, b.Occurrence)) < 0
}

func (h itemHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *itemHeap) Push(x any) {
	it, _ := x.(Item)
	*h = append(*h, it)
}

func (h *itemHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	*h = old[:len(old)-1]
	return it
}
