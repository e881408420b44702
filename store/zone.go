package store

import (
	"context"

	"github.com/futago/futago/store/internal/litedb"
)

// zoneShift: a block is 2048 consecutive ids.
const zoneShift = 11

// zone summarises one block of events, so that a filter can skip it. It only
// ever widens.
type zone struct {
	block      int64
	lo, hi     int64
	kinds      int64
	severities int64
}

func bit(n uint8) int64 { return 1 << min(n, 62) }

// touchZone notes an event. Ids rise, so that a transaction touches few
// blocks, the last one mostly.
func (tx *Tx) touchZone(e *EventRow) {
	block := int64(e.ID >> zoneShift)
	if n := len(tx.zones); n == 0 || tx.zones[n-1].block != block {
		tx.zones = append(tx.zones, zone{block: block, lo: e.At, hi: e.At})
	}
	z := &tx.zones[len(tx.zones)-1]
	z.lo, z.hi = min(z.lo, e.At), max(z.hi, e.At)
	z.kinds |= bit(uint8(e.Kind))
	z.severities |= bit(uint8(e.Severity))
}

func (tx *Tx) flushZones() error {
	for i := range tx.zones {
		z := &tx.zones[i]
		_, err := tx.c.One(context.Background(), func(r litedb.Row) error {
			z.lo, z.hi = min(z.lo, r.Int(0)), max(z.hi, r.Int(1))
			z.kinds |= r.Int(2)
			z.severities |= r.Int(3)
			return nil
		}, "SELECT lo, hi, kinds, severities FROM zones WHERE block = ?", z.block)
		if err != nil {
			return err
		}
		if _, err := tx.c.Exec("INSERT OR REPLACE INTO zones (block, lo, hi, kinds, severities) VALUES (?, ?, ?, ?, ?)",
			z.block, z.lo, z.hi, z.kinds, z.severities); err != nil {
			return err
		}
	}
	tx.zones = tx.zones[:0]
	return nil
}
