package dedup

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/futago/futago"
)

// disk is the part of the Judge that knows which open events are in the spill
// alone. Each cell of the spill holds a segment: a sorted list of records, by
// which the events of a key are found. The events themselves are rows of the
// history; a segment is written once and not changed when they are.
type disk struct {
	segments []*segment // by ascending ids of events
	free     []uint32   // cells given up, for use by the next segments
	cells    uint32     // cells ever used
	changed  bool       // since Directory was called
	whole    reach      // of all segments together

	cache  map[uint32]*cached // contents of cells
	loaded map[uint64]*Group  // events that were looked up, as they are now
	use    uint64             // counts look-ups, to tell which content is old
	hits   []found            // what find returns
}

// segment is a cell's entry in the directory.
type segment struct {
	cell   uint32
	n      int    // records
	newest uint64 // highest id
	latest int64  // latest arrival of any copy
	reach
	// grown are records of events whose reach has outgrown what the cell says.
	grown []record
}

// record describes an event in a segment: the first 8 bytes of its key, and
// when a copy must have arrived to be counted for it.
type record struct {
	prefix uint64
	id     uint64
	hull
}

const recordSize = 32

type cached struct {
	b    []byte
	used uint64
}

// found is an open event in the spill.
type found struct {
	*Group
	in   *segment
	at   hull // as in its record
	bare bool // Group has no more than an id
}

// Bounds of the caches: 48 MB in cells of full segments and 5 MB in events, while
// a manager's copies of long ago come in at a high rate, and nothing otherwise.
const (
	maxCached = 96
	maxLoaded = 32768
)

func prefixOf(k futago.Key) uint64 { return binary.LittleEndian.Uint64(k[:8]) }

func (d *disk) records() (n int) {
	for _, s := range d.segments {
		n += s.n
	}
	return n
}

// find returns the open events of the copy's key that the copy may be counted
// for, by ascending id. They are valid until the next call.
func (d *disk) find(j *Judge, c Copy, s Spill) ([]found, error) {
	if len(d.segments) == 0 || !d.whole.has(c.Slot, c.At) {
		return nil, nil
	}
	d.hits = d.hits[:0]
	for _, g := range d.segments {
		if g.has(c.Slot, c.At) {
			if err := d.look(g, c, s); err != nil {
				return nil, err
			}
		}
	}
	if len(d.hits) == 0 {
		return nil, nil
	}
	if err := d.load(s); err != nil {
		return nil, err
	}
	open := d.hits[:0]
	for _, f := range d.hits {
		if f.Group != nil && f.Key == c.Key && !j.expired(f.Group) {
			open = append(open, f)
		}
	}
	return open, nil
}

// look adds the records of a segment that fit the copy to d.hits, without
// their groups.
func (d *disk) look(g *segment, c Copy, s Spill) error {
	b, err := d.content(g, s)
	if err != nil {
		return err
	}
	want := prefixOf(c.Key)
	from := len(d.hits)
	lo, hi := 0, g.n
	for lo < hi {
		mid := (lo + hi) / 2
		if binary.LittleEndian.Uint64(b[mid*recordSize:]) < want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for ; lo < g.n; lo++ {
		r := readRecord(b[lo*recordSize:])
		if r.prefix != want {
			break
		}
		if r.has(c.At) {
			d.hit(r, g)
		}
	}
	for _, r := range g.grown {
		if r.prefix == want && r.has(c.At) && !slices.ContainsFunc(d.hits[from:], func(f found) bool { return f.ID == r.id }) {
			d.hit(r, g)
		}
	}
	slices.SortFunc(d.hits[from:], func(a, b found) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

// hit notes a record; load puts the event in the place of the bare id.
func (d *disk) hit(r record, g *segment) {
	ev, ok := d.loaded[r.id]
	if !ok {
		ev = &Group{ID: r.id}
	}
	d.hits = append(d.hits, found{Group: ev, in: g, at: r.hull, bare: !ok})
}

// load reads the events of d.hits that are not at hand.
func (d *disk) load(s Spill) error {
	var ids []uint64
	for _, f := range d.hits {
		if f.bare {
			ids = append(ids, f.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if d.loaded == nil || len(d.loaded)+len(ids) > maxLoaded {
		d.loaded = make(map[uint64]*Group)
	}
	groups, err := s.Groups(ids)
	if err != nil {
		return err
	}
	for i := range groups {
		d.loaded[groups[i].ID] = &groups[i]
	}
	for i := range d.hits {
		if f := &d.hits[i]; f.bare {
			f.Group = d.loaded[f.ID]
		}
	}
	return nil
}

func (d *disk) content(g *segment, s Spill) ([]byte, error) {
	d.use++
	if c, ok := d.cache[g.cell]; ok {
		c.used = d.use
		return c.b, nil
	}
	b, err := s.Cell(g.cell)
	if err != nil {
		return nil, err
	}
	if len(b) != g.n*recordSize {
		return nil, futago.Errorf(futago.CodeCorrupt, "cell %d of the de-duplication has %d bytes and should have %d", g.cell, len(b), g.n*recordSize).
			WithAction("remove this member's database; it is restored from the other manager")
	}
	d.keep(g.cell, b)
	return b, nil
}

func (d *disk) keep(cell uint32, b []byte) {
	if d.cache == nil {
		d.cache = make(map[uint32]*cached)
	}
	if _, ok := d.cache[cell]; !ok && len(d.cache) >= maxCached {
		oldest, used := uint32(0), uint64(math.MaxUint64)
		for n, c := range d.cache {
			if c.used < used {
				oldest, used = n, c.used
			}
		}
		delete(d.cache, oldest)
	}
	d.cache[cell] = &cached{b, d.use}
}

// touched keeps the directory true after an event in the spill was counted for.
func (d *disk) touched(f found, r *rule) {
	x := r.reach(f.Group)
	if f.in.add(&x) {
		d.whole.add(&x)
		d.changed = true
	}
	for m := range f.Last {
		if f.Count[m] > 0 && f.Last[m] > f.in.latest {
			f.in.latest, d.changed = f.Last[m], true
		}
	}
	all := x.all()
	if all.lo >= f.at.lo && all.hi <= f.at.hi || all.lo > all.hi {
		return
	}
	all.add(f.at)
	d.changed = true
	for i := range f.in.grown {
		if f.in.grown[i].id == f.ID {
			f.in.grown[i].add(all)
			return
		}
	}
	f.in.grown = append(f.in.grown, record{prefixOf(f.Key), f.ID, all})
}

// write puts events, which are newer than all in the spill, into a segment: the
// last one if there is room.
func (d *disk) write(j *Judge, list []Group, s Spill) error {
	if len(list) == 0 {
		return nil
	}
	g := &segment{latest: math.MinInt64, reach: newReach()}
	var records []record
	if n := len(d.segments); n > 0 && d.segments[n-1].n+len(list) <= j.segmentSize {
		g = d.segments[n-1]
		b, err := d.content(g, s)
		if err != nil {
			return err
		}
		for ; len(b) > 0; b = b[recordSize:] {
			records = append(records, readRecord(b))
		}
	} else {
		g.cell = d.take()
		d.segments = append(d.segments, g)
	}
	for i := range list {
		ev := &list[i]
		x := j.rules[ev.Rule].reach(ev)
		g.add(&x)
		g.newest = ev.ID
		for m := range ev.Last {
			if ev.Count[m] > 0 {
				g.latest = max(g.latest, ev.Last[m])
			}
		}
		records = append(records, record{prefixOf(ev.Key), ev.ID, x.all()})
	}
	g.n = len(records)
	slices.SortFunc(records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.id, b.id))
	})
	b := make([]byte, 0, len(records)*recordSize)
	for i := range records {
		b = records[i].append(b)
	}
	if len(d.segments) == 1 {
		d.whole = newReach()
	}
	d.whole.add(&g.reach)
	d.changed = true
	delete(d.cache, g.cell)
	return s.PutCell(g.cell, b)
}

func (d *disk) take() uint32 {
	if n := len(d.free); n > 0 {
		c := d.free[n-1]
		d.free = d.free[:n-1]
		return c
	}
	d.cells++
	return d.cells - 1
}

func (r *record) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, r.prefix)
	b = binary.LittleEndian.AppendUint64(b, r.id)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.lo))
	return binary.LittleEndian.AppendUint64(b, uint64(r.hi))
}

func readRecord(b []byte) record {
	u := binary.LittleEndian.Uint64
	return record{u(b), u(b[8:]), hull{int64(u(b[16:])), int64(u(b[24:]))}}
}

// tidy gives up the segments whose events have all expired.
func (d *disk) tidy(j *Judge, s Spill) error {
	n := len(d.segments)
	for i := 0; i < len(d.segments); {
		g := d.segments[i]
		if !g.expired(j) {
			i++
			continue
		}
		if err := s.PutCell(g.cell, nil); err != nil {
			return err
		}
		delete(d.cache, g.cell)
		d.free = append(d.free, g.cell)
		d.segments = slices.Delete(d.segments, i, i+1)
		d.changed = true
	}
	if len(d.segments) < n {
		d.sum()
	}
	if len(d.segments) == 0 {
		d.cache, d.loaded = nil, nil
	}
	return nil
}

// sum makes whole anew.
func (d *disk) sum() {
	d.whole = newReach()
	for _, g := range d.segments {
		d.whole.add(&g.reach)
	}
}

// expired is Judge.expired for all events of a segment together.
func (g *segment) expired(j *Judge) bool {
	if j.next > g.newest && j.next-g.newest > j.maxOpenEvents {
		return true
	}
	closed := true
	newest := int64(math.MinInt64)
	for m := range g.pair {
		w := j.marks[m].since(g.newest)
		newest = max(newest, w)
		closed = closed && w >= g.pair[m].hi && w >= g.near[m].hi
	}
	return closed || newest >= addTime(g.latest, j.maxOpen)
}

const directoryVersion = 1

func (d *disk) append(b []byte) []byte {
	b = append(b, directoryVersion)
	b = binary.AppendUvarint(b, uint64(d.cells))
	b = binary.AppendUvarint(b, uint64(len(d.segments)))
	for _, g := range d.segments {
		b = binary.AppendUvarint(b, uint64(g.cell))
		b = binary.AppendUvarint(b, uint64(g.n))
		b = binary.AppendUvarint(b, g.newest)
		b = binary.AppendVarint(b, g.latest)
		for m := range g.pair {
			b = appendHull(b, g.pair[m])
			b = appendHull(b, g.near[m])
		}
		b = binary.AppendUvarint(b, uint64(len(g.grown)))
		for i := range g.grown {
			b = g.grown[i].append(b)
		}
	}
	return b
}

func appendHull(b []byte, h hull) []byte {
	b = binary.AppendVarint(b, h.lo)
	return binary.AppendVarint(b, h.hi)
}

func (d *disk) read(b []byte) error {
	var c cursor
	if err := c.begin(b, directoryVersion); err != nil {
		return err
	}
	d.cells = uint32(c.uvarint())
	used := make(map[uint32]bool)
	for range c.uvarint() {
		g := &segment{cell: uint32(c.uvarint()), n: int(c.uvarint()), newest: c.uvarint(), latest: c.varint()}
		for m := range g.pair {
			g.pair[m] = hull{c.varint(), c.varint()}
			g.near[m] = hull{c.varint(), c.varint()}
		}
		for range c.uvarint() {
			if len(c.b) < recordSize {
				c.bad = true
			}
			if c.bad {
				break
			}
			g.grown = append(g.grown, readRecord(c.b))
			c.b = c.b[recordSize:]
		}
		if c.bad {
			break
		}
		used[g.cell] = true
		d.segments = append(d.segments, g)
	}
	if err := c.end(); err != nil {
		return err
	}
	for n := d.cells; n > 0; n-- {
		if !used[n-1] {
			d.free = append(d.free, n-1)
		}
	}
	d.sum()
	return nil
}
