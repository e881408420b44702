package syslog

// date is what was read of a time stamp, before it is known which instant it
// means.
type date struct {
	// shape says that there is something in the form of a date, valid that it
	// is one.
	shape, valid bool
	size         int // bytes
	// year is 0 when the sender left it out.
	year, month, day     int
	hour, minute, second int
	nano                 int
	fraction             int // digits of it
	// zone is an abbreviation; offset, in seconds east, counts if hasOffset.
	zone      string
	offset    int
	hasOffset bool
	// separator stands between date and time in the ISO form, 0 in others.
	separator byte
	epoch     int64 // seconds since 1970 with nano, for senders of such
	isEpoch   bool
}

// unlike5424 says in which way a valid ISO date is none of RFC 5424 section 6.2.3.
func (d *date) unlike5424() string {
	switch {
	case d.separator != 'T':
		return "no T before the time"
	case d.fraction > 6:
		return "more than six digits of fraction"
	case !d.hasOffset:
		return "no offset"
	case d.second == 60:
		return "a leap second"
	}
	return ""
}

// check sets valid by the ranges of the fields.
func (d *date) check() {
	d.shape = true
	year := d.year
	if year == 0 {
		year = 2000 // a leap year: 29 February may be right
	}
	d.valid = d.month >= 1 && d.month <= 12 && d.day >= 1 && d.day <= daysIn(year, d.month) &&
		d.hour < 24 && d.minute < 60 && d.second <= 60 && d.offset > -24*3600 && d.offset < 24*3600
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// parseDate reads a date at the start of s in any of the forms that devices
// write. Where there is none, shape is false.
func parseDate(s string) date {
	if len(s) < 10 {
		return date{}
	}
	switch c := s[0]; {
	case c == '*' || c == '.':
		// Cisco marks a clock that is not set, or not synchronised, so.
		if s[1] == '*' || s[1] == '.' {
			return date{}
		}
		d := parseDate(s[1:])
		if d.shape {
			d.size++
		}
		return d
	case c-'0' <= 9:
		switch n := digits(s, 0); {
		case n == 4 && (s[4] == '-' || s[4] == '/'):
			return parseISO(s)
		case n == 4 && s[4] == ' ': // 2024 Mar  1 18:46:11
			d := parseMonthDay(s[5:])
			if d.shape && d.year == 0 {
				d.year = number(s[:4])
				d.size += 5
				d.check()
				return d
			}
		case n == 2 && s[2] == '/':
			return parseSlashed(s)
		case n <= 2 && (s[n] == ' ' || s[n] == '-'):
			return parseDayMonth(s, n)
		case n == 8 && s[8] == 'T':
			return parseCompact(s)
		case n >= 9 && n <= 11 && len(s) > n+1 && s[n] == '.' && s[n+1]-'0' <= 9:
			return parseEpoch(s, n)
		}
		return date{}
	}
	if n := weekday(s); n > 0 {
		d := parseMonthDay(s[n:])
		if k := digits(s, n); k > 0 && k <= 2 {
			d = parseDayMonth(s[n:], k)
		}
		if d.shape {
			d.size += n
		}
		return d
	}
	return parseMonthDay(s)
}

// weekday returns the length of the name of a day with what follows it.
func weekday(s string) int {
	switch [3]byte{s[0] | 0x20, s[1] | 0x20, s[2] | 0x20} {
	case [3]byte{'m', 'o', 'n'}, [3]byte{'t', 'u', 'e'}, [3]byte{'w', 'e', 'd'}, [3]byte{'t', 'h', 'u'},
		[3]byte{'f', 'r', 'i'}, [3]byte{'s', 'a', 't'}, [3]byte{'s', 'u', 'n'}:
	default:
		return 0
	}
	n := 3
	if s[n] == ',' {
		n++
	}
	if s[n] != ' ' {
		return 0
	}
	n = skipSpaces(s, n)
	if len(s)-n < 10 {
		return 0
	}
	return n
}

// parseMonthDay reads "Mar  1 18:46:11" with its many additions: a fraction,
// a zone and a year after the time, or the year before it. A word in the place
// of the month that is none makes a date that is not valid.
func parseMonthDay(s string) date {
	var d date
	i := 0
	for i < len(s) && i < 6 && (s[i] >= 0x80 || isLetter(s[i])) {
		i++
	}
	if i < 3 || i >= len(s) || s[i] != ' ' || s[0] >= 'a' && s[0] <= 'z' && (i > 3 || month(s) == 0) {
		return d
	}
	if i == 3 {
		d.month = month(s)
	}
	i = skipSpaces(s, i)
	n := digits(s, i)
	if n < 1 || n > 2 {
		return d
	}
	d.day = number(s[i : i+n])
	i += n
	if i >= len(s) || s[i] != ' ' {
		return date{}
	}
	i = skipSpaces(s, i)
	if digits(s, i) == 4 && i+4 < len(s) && s[i+4] == ' ' {
		d.year = number(s[i : i+4])
		i = skipSpaces(s, i+4)
	}
	n = d.clock(s[i:])
	if n == 0 {
		return date{}
	}
	i += n
	// After the time come a zone and a year, in either order.
	for range 2 {
		if d.zone == "" && !d.hasOffset {
			i += d.anyZone(s[i:])
		}
		if d.year == 0 {
			if n := yearAfter(s[i:]); n > 0 {
				d.year = number(s[i+n-4 : i+n])
				i += n
			}
		}
	}
	d.size = i
	d.check()
	return d
}

// parseDayMonth reads "1 Mar 2024 18:46:11" and "01-Mar-2024 18:46:11".
func parseDayMonth(s string, n int) date {
	if n >= len(s) {
		return date{}
	}
	d := date{day: number(s[:n])}
	sep := s[n]
	i := n + 1
	if len(s) < i+13 || month(s[i:]) == 0 || s[i+3] != sep || digits(s, i+4) != 4 || s[i+8] != ' ' {
		return date{}
	}
	d.month, d.year = month(s[i:]), number(s[i+4:i+8])
	i += 9
	n = d.clock(s[i:])
	if n == 0 {
		return date{}
	}
	i += n
	i += d.anyZone(s[i:])
	d.size = i
	d.check()
	return d
}

// parseISO reads "2024-03-01T18:46:11.123456+09:00", also with a space or a
// slash in the places where devices write such, and without offset.
func parseISO(s string) date {
	var d date
	if len(s) < 19 || digits(s, 0) != 4 || (s[4] != '-' && s[4] != '/') || digits(s, 5) != 2 || s[7] != s[4] || digits(s, 8) != 2 {
		return d
	}
	switch s[10] {
	case 'T', 't', ' ':
	default:
		return d
	}
	d.separator = s[10]
	d.year, d.month, d.day = number(s[:4]), number(s[5:7]), number(s[8:10])
	n := d.clock(s[11:])
	if n < 8 {
		return date{}
	}
	i := 11 + n
	i += d.anyZone(s[i:])
	d.size = i
	d.check()
	return d
}

// parseSlashed reads "03/01/2024:18:46:11 GMT" (month first, as Citrix writes)
// and "03/01/2024 18:46:11". What can only be day first is read so.
func parseSlashed(s string) date {
	var d date
	if len(s) < 19 || digits(s, 3) != 2 || s[5] != '/' || digits(s, 6) != 4 || (s[10] != ':' && s[10] != ' ') {
		return d
	}
	d.month, d.day, d.year = number(s[:2]), number(s[3:5]), number(s[6:10])
	if d.month > 12 {
		d.month, d.day = d.day, d.month
	}
	n := d.clock(s[11:])
	if n == 0 {
		return date{}
	}
	i := 11 + n
	i += d.anyZone(s[i:])
	d.size = i
	d.check()
	return d
}

// parseCompact reads "20240301T184611Z" (ISO 8601 basic).
func parseCompact(s string) date {
	var d date
	if digits(s, 9) != 6 {
		return d
	}
	d.separator = 'T'
	d.year, d.month, d.day = number(s[:4]), number(s[4:6]), number(s[6:8])
	d.hour, d.minute, d.second = number(s[9:11]), number(s[11:13]), number(s[13:15])
	i := 15 + d.subsecond(s[15:])
	i += d.anyZone(s[i:])
	d.size = i
	d.check()
	return d
}

// parseEpoch reads "1563249630.774247467", seconds since 1970, as Meraki writes.
func parseEpoch(s string, n int) date {
	d := date{isEpoch: true}
	for _, c := range s[:n] {
		d.epoch = d.epoch*10 + int64(c-'0')
	}
	m := d.subsecond(s[n:])
	if n+m < len(s) && s[n+m] != ' ' {
		return date{}
	}
	d.size = n + m
	d.shape, d.valid = true, true
	return d
}

// clock reads "18:46:11" with a fraction and returns its length, 0 when there
// is no time.
func (d *date) clock(s string) int {
	h := digits(s, 0)
	if h < 1 || h > 2 || len(s) < h+6 || s[h] != ':' || digits(s, h+1) != 2 || s[h+3] != ':' || digits(s, h+4) != 2 {
		return 0
	}
	d.hour, d.minute, d.second = number(s[:h]), number(s[h+1:h+3]), number(s[h+4:h+6])
	n := h + 6
	return n + d.subsecond(s[n:])
}

// subsecond reads a fraction of a second, which begins with a full stop or a
// comma. Digits beyond the ninth do not count.
func (d *date) subsecond(s string) int {
	if len(s) < 2 || (s[0] != '.' && s[0] != ',') {
		return 0
	}
	n := digits(s, 1)
	if n == 0 {
		return 0
	}
	d.fraction, d.nano = n, 0
	for i := range 9 {
		d.nano *= 10
		if i < n {
			d.nano += int(s[1+i] - '0')
		}
	}
	return 1 + n
}

// yearAfter returns the length of a year after a time, with the space before it.
func yearAfter(s string) int {
	if len(s) < 5 || s[0] != ' ' || digits(s, 1) != 4 || (s[1:3] != "19" && s[1:3] != "20") {
		return 0
	}
	if len(s) > 5 && s[5] != ' ' && s[5] != '+' && s[5] != '-' && (s[5] != ':' || len(s) > 6 && s[6] != ' ') {
		return 0 // an IPv6 address may begin so
	}
	return 5
}

func number(s string) int {
	n := 0
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

func isLetter(c byte) bool {
	c |= 0x20
	return c >= 'a' && c <= 'z'
}

// month returns the number of the English month at the start of s, else 0.
func month(s string) int {
	if len(s) < 3 {
		return 0
	}
	switch [3]byte{s[0] | 0x20, s[1] | 0x20, s[2] | 0x20} {
	case [3]byte{'j', 'a', 'n'}:
		return 1
	case [3]byte{'f', 'e', 'b'}:
		return 2
	case [3]byte{'m', 'a', 'r'}:
		return 3
	case [3]byte{'a', 'p', 'r'}:
		return 4
	case [3]byte{'m', 'a', 'y'}:
		return 5
	case [3]byte{'j', 'u', 'n'}:
		return 6
	case [3]byte{'j', 'u', 'l'}:
		return 7
	case [3]byte{'a', 'u', 'g'}:
		return 8
	case [3]byte{'s', 'e', 'p'}:
		return 9
	case [3]byte{'o', 'c', 't'}:
		return 10
	case [3]byte{'n', 'o', 'v'}:
		return 11
	case [3]byte{'d', 'e', 'c'}:
		return 12
	}
	return 0
}
