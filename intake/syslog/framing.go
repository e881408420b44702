package syslog

import "bytes"

// maxCountDigits bounds the octet count of a frame; more digits are text.
const maxCountDigits = 7

// ending says what follows the bytes that a framer has.
type ending uint8

const (
	more   ending = iota // nothing is known
	ended                // the sender has ended the stream
	broken               // the stream was cut; what is left of it is not whole
)

// framer cuts a byte stream into messages by RFC 6587, finding out by itself
// which of the two framings the sender uses:
//
//   - octet counting: a frame "83 <34>1 …" begins with a count, and its message
//     with a PRI. Once a connection has counted, a count need not be followed
//     by a PRI.
//   - non-transparent framing: a message ends at LF, CR LF, or a NUL that
//     stands before a line end, before the "<" of the next message or where the
//     data that has come ends. Another NUL is part of the message.
//
// Line ends and NULs between messages are nobody's. Where counting goes wrong,
// as with senders that count characters, the next count is looked for.
//
// A message longer than the limit is cut to it and the rest of it left out.
type framer struct {
	max  int
	buf  []byte
	r, w int // what of buf is in use
	// scanned bytes after r hold no end of a message.
	scanned int
	// skip is what is left of a counted message that was cut, skipLine says
	// that a line is being left out up to its end.
	skip     int
	skipLine bool
	counting bool

	discarded uint64 // bytes left out of messages that were cut
	faults    uint64 // frames without count where there should be one
}

// keepBack is more than the length of a count with the beginning of a message.
const keepBack = maxCountDigits + 9

const (
	frameBuffer     = 8 << 10
	frameBufferFull = 64 << 10
)

// space returns where the next bytes of the stream go; advance says how many
// were put there.
func (f *framer) space() []byte {
	if f.r == f.w {
		f.r, f.w = 0, 0
		if len(f.buf) > frameBufferFull { // an unusually long message is over
			f.buf = nil
		}
	}
	switch {
	case f.buf == nil:
		f.buf = make([]byte, frameBuffer)
	case f.r > 0 && f.w > len(f.buf)/4*3:
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	case f.w == len(f.buf):
		// One message fills the buffer. next cuts it at max, so that this
		// ends a little above.
		b := make([]byte, max(len(f.buf)+1, min(2*len(f.buf), f.max+keepBack)))
		copy(b, f.buf)
		f.buf = b
	}
	return f.buf[f.w:]
}

func (f *framer) advance(n int) {
	f.w += n
	if f.w == len(f.buf) && f.r == 0 && len(f.buf) < frameBufferFull && f.max >= frameBufferFull {
		// The sender is faster than the reader: read more at a time.
		b := make([]byte, 2*len(f.buf))
		copy(b, f.buf[:f.w])
		f.buf = b
	}
}

// take consumes n bytes.
func (f *framer) take(n int) {
	f.r += n
	f.scanned = 0
}

// next returns the next whole message of what has come. It is valid until the
// next call of space. At the end of the stream what is left is a message too.
// cut says that the message is not whole.
func (f *framer) next(end ending) (m []byte, cut, ok bool) {
	for {
		b := f.buf[f.r:f.w]
		if len(b) == 0 {
			return nil, false, false
		}
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip -= n
			f.discarded += uint64(n)
			f.take(n)
			continue
		}
		if f.skipLine {
			if !f.leaveOut(b) {
				return nil, false, false
			}
			continue
		}
		if c := b[0]; c == '\n' || c == '\r' || c == 0 {
			f.take(1)
			continue
		}
		size, head, unsure := f.count(b)
		switch {
		case unsure && end == more:
			return nil, false, false
		case head > 0:
			return f.counted(b, size, head, end)
		}
		return f.line(b, end)
	}
}

// leaveOut drops b up to the end of the line that is being left out, and
// reports whether the end was there.
func (f *framer) leaveOut(b []byte) bool {
	n, found := endOfLine(b, 0)
	next := min(n+1, len(b))
	if f.counting {
		if i := nextCount(b[:n], 0); i > 0 {
			n, next, found = i, i, true
		} else if !found {
			n = max(0, n-keepBack) // a count may have come in part
			next = n
		}
	}
	f.discarded += uint64(n)
	f.take(next)
	f.skipLine = !found
	return found
}

// count reads an octet count at the start of b: the size of the message and
// the length of the count with its space. head is 0 when there is none; unsure
// says that the bytes which decide have not come yet.
func (f *framer) count(b []byte) (size, head int, unsure bool) {
	d := 0
	for d < len(b) && d <= maxCountDigits && b[d]-'0' <= 9 {
		size = size*10 + int(b[d]-'0')
		d++
	}
	switch {
	case d == 0 || d > maxCountDigits || b[0] == '0':
		return 0, 0, false
	case d == len(b):
		return 0, 0, true
	case b[d] != ' ':
		return 0, 0, false
	case f.counting:
		return size, d + 1, false
	case d+1 == len(b) || b[d+1] == '<' && d+2 == len(b):
		return 0, 0, true
	case b[d+1] != '<' || b[d+2]-'0' > 9:
		return 0, 0, false
	}
	return size, d + 1, false
}

func (f *framer) counted(b []byte, size, head int, end ending) (m []byte, cut, ok bool) {
	kept := min(size, f.max)
	switch {
	case len(b)-head >= kept:
		f.counting = true
		f.take(head + kept)
		f.skip = size - kept
		return b[head : head+kept], size > kept, true
	case end != more:
		f.counting = true
		f.take(len(b))
		return b[head:], true, len(b) > head
	}
	return nil, false, false
}

func (f *framer) line(b []byte, ending ending) (m []byte, cut, ok bool) {
	end, found := endOfLine(b, f.scanned)
	next := end + 1
	if f.counting {
		// No count where one should be: up to the next one is a message.
		if i := nextCount(b[:end], f.scanned); i > 0 {
			end, next, found = i, i, true
		}
	}
	switch {
	case trimmed(b[:end]) > f.max && (found || ending != more || end > f.max+1): // a CR may come
		f.fault()
		f.discarded += uint64(trimmed(b[:end]) - f.max)
		f.skipLine = !found
		f.take(min(next, len(b)))
		return b[:f.max], true, true
	case found:
		f.fault()
		f.take(next)
		return b[:trimmed(b[:end])], false, true
	case ending != more:
		f.fault()
		f.take(len(b))
		return b[:trimmed(b)], ending == broken, true
	}
	// A count that has come in part lies at the end.
	f.scanned = max(0, len(b)-keepBack)
	return nil, false, false
}

func (f *framer) fault() {
	if f.counting {
		f.faults++
	}
}

// trimmed returns the length of b without a CR at its end.
func trimmed(b []byte) int {
	if n := len(b); n > 0 && b[n-1] == '\r' {
		return n - 1
	}
	return len(b)
}

// endOfLine returns where the first message in b ends, looking from from on;
// len(b) when it has not ended.
func endOfLine(b []byte, from int) (end int, found bool) {
	end = len(b)
	if i := bytes.IndexByte(b[from:], '\n'); i >= 0 {
		end, found = from+i, true
	}
	for at := from; at < end; at++ {
		i := bytes.IndexByte(b[at:end], 0)
		if i < 0 {
			break
		}
		at += i
		after := b[at+1:]
		if len(after) == 0 || after[0] == '\n' || after[0] == '\r' || after[0] == 0 || after[0] == '<' {
			return at, true
		}
	}
	return end, found
}

// nextCount looks for a count with a message behind it, as "83 <34>", and
// returns where it begins, 0 when there is none.
func nextCount(b []byte, from int) int {
	for at := from; at < len(b); {
		i := bytes.IndexByte(b[at:], '<')
		if i < 0 {
			return 0
		}
		at += i
		d := at - 1 // the space
		first := d
		for first > 0 && d-first < maxCountDigits && b[first-1]-'0' <= 9 {
			first--
		}
		if d > 0 && b[d] == ' ' && first < d && first > 0 && b[first] != '0' && at+1 < len(b) && b[at+1]-'0' <= 9 {
			return first
		}
		at++
	}
	return 0
}
