package dedup

import "math"

// A mark says that at a moment when the next event was to have this id, a
// manager's watermark was at.
type mark struct {
	id uint64
	at int64
}

// marks keeps what is needed to find the highest watermark reported since an
// event was made: ids ascend, times strictly descend. While a clock runs
// forward that is a single mark.
type marks []mark

// maxMarks bounds the marks of a clock that is set back over and over. Merging
// the two oldest ends the waiting of a few events too early, which at worst
// shows an occurrence twice.
const maxMarks = 64

func (ms *marks) push(id uint64, at int64) {
	s := *ms
	for len(s) > 0 && s[len(s)-1].at <= at {
		s = s[:len(s)-1]
	}
	if len(s) == 0 || s[len(s)-1].id < id {
		s = append(s, mark{id, at})
	}
	if len(s) > maxMarks {
		s[1].at = s[0].at
		s = append(s[:0], s[1:]...)
	}
	*ms = s
}

// since returns the highest watermark reported since the event was made.
func (ms marks) since(event uint64) int64 {
	i := len(ms)
	for i > 0 && ms[i-1].id > event {
		i--
	}
	if i == len(ms) {
		return math.MinInt64
	}
	return ms[i].at
}
