package customtrap

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// zoneCache keeps the time zone of the settings last seen, so that it is not
// read from disk for each element.
type zoneCache struct {
	last atomic.Pointer[zone]
}

type zone struct {
	name string
	loc  *time.Location
	err  error
}

// location returns the zone of dates without one. When the setting names an
// unknown zone, it is UTC and problem says so.
func (c *zoneCache) location(name string) (loc *time.Location, problem string) {
	z := c.last.Load()
	if z == nil || z.name != name {
		z = &zone{name: name}
		if z.loc, z.err = time.LoadLocation(name); z.err != nil {
			z.loc = time.UTC
		}
		c.last.Store(z)
	}
	if z.err != nil {
		problem = fmt.Sprintf("time zone %q is unknown here; UTC taken", name)
	}
	return z.loc, problem
}

// dateZones are the zone suffixes that are known by name. Others are left out:
// most abbreviations stand for several zones.
var dateZones = map[string]int{"Z": 0, "UTC": 0, "GMT": 0, "JST": 9 * 3600}

// dateLayouts are tried in turn. Package time takes a fraction of a second,
// after a point or a comma, wherever a layout has seconds.
var dateLayouts = [...]string{
	"2006-01-02 15:04:05", "2006-01-02 15:04:05-07:00", "2006-01-02 15:04:05-0700", "2006-01-02 15:04:05-07",
	"2006-01-02T15:04:05", "2006-01-02T15:04:05-07:00", "2006-01-02T15:04:05-0700",
}

// parseDate understands DATE. An empty one is no date. zone is that of dates
// without one.
func parseDate(s string, zone *time.Location) (at time.Time, ok bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return time.Time{}, true
	}
	// The suffix may stand apart: "… 12:00:00 +09:00", "… 12:00:00 JST".
	end := strings.LastIndexFunc(s, func(r rune) bool { return r >= '0' && r <= '9' }) + 1
	if name := strings.TrimSpace(s[end:]); name != "" {
		offset, known := dateZones[name]
		if !known {
			return time.Time{}, false
		}
		s, zone = s[:end], time.FixedZone(name, offset)
		if offset == 0 {
			zone = time.UTC
		}
	}
	const date = len("2006-01-02 ")
	if i := strings.LastIndexByte(s, ' '); i > date {
		s = s[:i] + s[i+1:]
	}
	for _, layout := range dateLayouts {
		at, err := time.ParseInLocation(layout, s, zone)
		if err == nil {
			return at, at.Year() > 0
		}
	}
	return time.Time{}, false
}
