package generate

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/futago/futago"
)

// Outcome is the fate of one copy as far as its sender knows.
type Outcome uint8

const (
	// Sent: given to the network; nobody answers.
	Sent Outcome = iota + 1
	// Acked: the manager answered that the trap is committed.
	Acked
	// Unknown: sent, and then an error or no answer. It may have arrived, or a
	// part of it.
	Unknown
	// Unsent: certainly not recorded: no connection, or refused by the manager.
	Unsent
)

var outcomeNames = [...]string{"", "sent", "acked", "unknown", "unsent"}

// String returns the name used in journals.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (o *Outcome) UnmarshalText(b []byte) error {
	i := slices.Index(outcomeNames[:], string(b))
	if i <= 0 {
		return fmt.Errorf("unknown outcome %q", b)
	}
	*o = Outcome(i) //nolint:gosec // four of them
	return nil
}

// MarshalText implements [encoding.TextMarshaler].
func (f Flavour) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *Flavour) UnmarshalText(b []byte) (err error) {
	*f, err = ParseFlavour(string(b))
	return err
}

// Copy is one occurrence of a trap sent to one manager.
type Copy struct {
	Number     uint32          `json:"number"`
	Occurrence uint32          `json:"occurrence"`
	Flavour    Flavour         `json:"flavour"`
	Member     futago.MemberID `json:"member"`
	// At is when it was sent, or would have been, and Done when the outcome was
	// known, in nanoseconds since 1970.
	At      int64   `json:"at"`
	Done    int64   `json:"done"`
	Outcome Outcome `json:"outcome"`
	// Why tells the error of an Unknown or Unsent copy.
	Why string `json:"why,omitempty"`
}

// Journal is the exact account of what was sent when, and to whom. It may be
// used by many goroutines.
type Journal struct {
	// Run marks the traps of this journal.
	Run uint32

	mu     sync.Mutex
	copies []Copy
}

// Add enters a copy.
func (j *Journal) Add(c Copy) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.copies = append(j.copies, c)
}

// Len is the number of copies entered.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.copies)
}

// Copies returns what was entered, by number, occurrence and member.
func (j *Journal) Copies() []Copy {
	j.mu.Lock()
	c := slices.Clone(j.copies)
	j.mu.Unlock()
	slices.SortFunc(c, func(a, b Copy) int {
		switch {
		case a.Number != b.Number:
			return int(int64(a.Number) - int64(b.Number))
		case a.Occurrence != b.Occurrence:
			return int(int64(a.Occurrence) - int64(b.Occurrence))
		case a.Member < b.Member:
			return -1
		case a.Member > b.Member:
			return 1
		default:
			return 0
		}
	})
	return c
}

// Summary counts the copies by outcome.
func (j *Journal) Summary() map[Outcome]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := make(map[Outcome]int)
	for _, c := range j.copies {
		m[c.Outcome]++
	}
	return m
}

// Write writes the journal as JSON lines; the first one holds the run.
func (j *Journal) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	if err := e.Encode(struct {
		Run uint32 `json:"run"`
	}{j.Run}); err != nil {
		return err
	}
	for _, c := range j.Copies() {
		if err := e.Encode(c); err != nil {
			return err
		}
	}
	return b.Flush()
}

// ReadJournal reads what Write wrote.
func ReadJournal(r io.Reader) (*Journal, error) {
	d := json.NewDecoder(bufio.NewReader(r))
	j := new(Journal)
	var head struct {
		Run uint32 `json:"run"`
	}
	if err := d.Decode(&head); err != nil {
		return nil, fmt.Errorf("head of the journal: %w", err)
	}
	j.Run = head.Run
	for {
		var c Copy
		err := d.Decode(&c)
		if errors.Is(err, io.EOF) {
			return j, nil
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d of the journal: %w", len(j.copies)+1, err)
		}
		j.copies = append(j.copies, c)
	}
}

// Presence notes when each manager was certainly up and reachable for the
// sender. Its user calls Down before it does harm, and Up after the manager
// is ready again; what is in between is uncertain. A manager that was never
// mentioned counts as never up.
type Presence struct {
	mu  sync.Mutex
	log map[futago.MemberID][]span
}

type span struct{ from, to time.Time } // to is zero while it lasts

// Up says that the manager takes traps from now on.
func (p *Presence) Up(m futago.MemberID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == nil {
		p.log = make(map[futago.MemberID][]span)
	}
	if s := p.log[m]; len(s) == 0 || !s[len(s)-1].to.IsZero() {
		p.log[m] = append(s, span{from: now})
	}
}

// Down says that the manager may miss traps from now on.
func (p *Presence) Down(m futago.MemberID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.log[m]; len(s) > 0 && s[len(s)-1].to.IsZero() {
		s[len(s)-1].to = now
	}
}

// Certain reports whether the manager was up all the time between the two.
func (p *Presence) Certain(m futago.MemberID, from, to time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.log[m] {
		if !from.Before(s.from) && (s.to.IsZero() || !to.After(s.to)) {
			return true
		}
	}
	return false
}
