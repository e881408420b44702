package generate

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"
)

// encoder makes the bytes of traps. It is for one goroutine, but for the
// sequence of request ids, which all encoders of a run share.
type encoder struct {
	run       uint32
	start     time.Time
	host      string
	community string
	ids       *atomic.Uint32
	usm       *usm
	text      []byte // scratch
	lastID    uint32 // request id of the last SNMP message
	stamp     []byte // of the last syslog message, at stampAt in stampForm
	stampAt   time.Time
	stampForm string
}

// engineID is that of the sending device (RFC 3411: net-snmp's enterprise, text).
func engineID(run uint32) []byte {
	return append([]byte{0x80, 0x00, 0x1f, 0x88, 0x04}, fmt.Sprintf("ftg-%08x", run)...)
}

// append appends the trap of an item as it is sent at a time. The bytes for
// both managers are the same but for what a device makes anew for each
// receiver: request ids, message ids, salts.
func (e *encoder) append(dst []byte, it Item, at time.Time) []byte {
	e.text = appendText(e.text[:0], e.run, it.Number)
	switch it.Flavour {
	case SyslogBSD, SyslogBSDStream:
		dst = append(dst, "<29>"...)
		dst = e.appendTime(dst, at, time.Stamp)
		dst = append(dst, ' ')
		dst = append(dst, e.host...)
		dst = append(dst, " gen[77]: "...)
		dst = append(dst, e.text...)
	case SyslogIETF, SyslogIETFStream, SyslogIETFTLS:
		dst = append(dst, "<29>1 "...)
		dst = e.appendTime(dst, at, "2006-01-02T15:04:05.000000Z07:00")
		dst = append(dst, ' ')
		dst = append(dst, e.host...)
		dst = append(dst, ` gen 77 TRAP [gen@32473 source="generate"] `...)
		dst = append(dst, e.text...)
	case SNMPv2c:
		dst = appendV2c(dst, e.community, tagTrap, e.nextID(), e.uptime(at), e.text)
	case SNMPInform:
		dst = appendV2c(dst, e.community, tagInform, e.nextID(), e.uptime(at), e.text)
	case SNMPv3:
		dst = e.usm.appendV3(dst, e.nextID(), e.uptime(at), e.text)
	case Custom:
		dst = e.appendCustom(dst, it)
	}
	return dst
}

// appendTime appends a time stamp; those of one batch are the same.
func (e *encoder) appendTime(dst []byte, at time.Time, layout string) []byte {
	if !at.Equal(e.stampAt) || layout != e.stampForm {
		e.stamp, e.stampAt, e.stampForm = at.AppendFormat(e.stamp[:0], layout), at, layout
	}
	return append(dst, e.stamp...)
}

func (e *encoder) nextID() uint32 {
	e.lastID = e.ids.Add(1) & 0x7fffffff
	return e.lastID
}

// uptime is in hundredths of a second.
func (e *encoder) uptime(at time.Time) uint32 {
	return uint32(100 + at.Sub(e.start)/(10*time.Millisecond)) //nolint:gosec // a test lasts no year
}

// appendCustom appends a request with one element. Its DATE is part of what
// makes two custom traps the same, so it is that of the first occurrence.
func (e *encoder) appendCustom(dst []byte, it Item) []byte {
	type element struct {
		Date string `json:"DATE"`
		Type string `json:"TYPE"`
		Key  string `json:"KEY"`
		Msg  string `json:"MSG"`
	}
	b, err := json.Marshal(struct {
		FacilityID string
		Data       []element `json:"DATA"`
	}{
		FacilityID: e.host,
		Data: []element{{
			Date: e.start.Add(it.First).UTC().Format(time.DateTime), Type: "STRING", Key: "trap", Msg: string(e.text),
		}},
	})
	if err != nil {
		panic(err) // strings always marshal
	}
	return append(dst, b...)
}
