package customtrap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/charset"
)

// receipt is the answer to a request that is committed.
type receipt struct {
	// Committed counts the elements of the request: all of them.
	Committed int `json:"committed"`
	// ReceivedAt is the time that the events have.
	ReceivedAt time.Time `json:"received_at"`
	// FirstSeq and LastSeq are the positions in the spool of the manager that
	// took the request, for the support of operators.
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
}

// ServeHTTP answers one request, on any path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if s.inWork.Add(1) > maxRequests {
		s.inWork.Add(-1)
		s.overloaded.Add(1)
		unavailable("too many requests are in work", "send it again after a moment", false, 1).write(w)
		return
	}
	defer s.inWork.Add(-1)
	rec, p := s.take(w, r)
	if p != nil {
		if p.Status < http.StatusInternalServerError {
			s.rejected.Add(1)
			s.log.Debug("custom trap refused", "from", r.RemoteAddr, "status", p.Status, "detail", p.Detail)
		}
		p.write(w)
		return
	}
	s.accepted.Add(1)
	writeJSON(w, http.StatusOK, rec)
}

// take does all of a request: who sends it, what is in it, storing it, and
// waiting for its commitment.
func (s *Server) take(w http.ResponseWriter, r *http.Request) (receipt, *problem) {
	settings := s.cfg.Settings()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return receipt{}, newProblem(http.StatusMethodNotAllowed, fmt.Sprintf("method %s is not allowed", shorten(r.Method)), "use POST")
	}
	if !authorized(r, settings.CustomTrapTokens) {
		s.unauthorized.Add(1)
		w.Header().Set("WWW-Authenticate", `Bearer realm="custom traps"`)
		return receipt{}, newProblem(http.StatusUnauthorized, "a valid token is missing",
			"send it in the header Authorization: Bearer TOKEN")
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return receipt{}, newProblem(http.StatusUnsupportedMediaType, fmt.Sprintf("content encoding %q is not supported", shorten(e)),
			"send the body as it is")
	}
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return receipt{}, newProblem(http.StatusInternalServerError, "the sender's address is unknown", "")
	}
	source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())

	raw, free, p := s.read(w, r)
	defer free()
	if p != nil {
		return receipt{}, p
	}
	at := time.Now()
	zone, _ := s.zones.location(settings.TimeZone) // the decoder puts a problem into the event
	b, err := parseBody(toUTF8(raw, r, settings, source.Addr()), zone)
	if err != nil {
		return receipt{}, bodyProblem(err)
	}
	recs, err := records(&b, futago.Received{
		At: at.UnixNano(), Kind: futago.KindCustomTrap, Transport: s.scheme, Source: source,
	})
	if err != nil {
		return receipt{}, bodyProblem(err)
	}
	return s.store(r.Context(), recs, at, free)
}

// read reads the body. free gives back its share of memory and may be called
// more than once.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (raw []byte, free func(), p *problem) {
	var taken int64
	free = func() {
		s.bodyMemory.Add(-taken)
		taken = 0
	}
	tooLarge := newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", MaxBody),
		"send the elements in several requests")
	if r.ContentLength > MaxBody {
		w.Header().Set("Connection", "close")
		return nil, free, tooLarge
	}
	body := http.MaxBytesReader(w, r.Body, MaxBody)
	const step = 16 << 10
	var buf bytes.Buffer
	for {
		taken += step
		if s.bodyMemory.Add(step) > maxBodyMemory {
			s.overloaded.Add(1)
			return nil, free, unavailable("too many bodies are being received", "send it again after a moment", false, 1)
		}
		_, err := io.CopyN(&buf, body, step)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return buf.Bytes(), free, nil
		default:
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				return nil, free, tooLarge
			}
			return nil, free, newProblem(http.StatusBadRequest, "the body ended too early", "send it again")
		}
	}
}

// toUTF8 converts a body that is not UTF-8 from the character set that the
// request names, or else the settings of its sender.
func toUTF8(raw []byte, r *http.Request, s *futago.IntakeSettings, source netip.Addr) []byte {
	if utf8.Valid(raw) {
		return raw
	}
	name := s.Charset(futago.KindCustomTrap, source)
	if _, params, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && params["charset"] != "" {
		name = strings.ToLower(params["charset"])
	}
	switch name {
	case "windows-31j", "cp932", "ms932", "sjis":
		name = charset.ShiftJIS
	case charset.ShiftJIS, charset.EUCJP, charset.Latin1:
	default:
		return raw
	}
	return []byte(charset.DecodeAs(raw, name))
}

// authorized compares the token's hash with all that are accepted, in a time
// that tells nothing about them. The scheme is in any case (RFC 9110 section 11.1).
func authorized(r *http.Request, hashes []string) bool {
	if len(hashes) == 0 {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for _, h := range hashes {
		want, err := hex.DecodeString(h)
		if err != nil {
			continue
		}
		found |= subtle.ConstantTimeCompare(sum[:], want)
	}
	return found == 1
}

// maxRecord is the longest record that the spool takes.
const maxRecord = 1 << 20

// records makes the record of each element.
func records(b *body, like futago.Received) ([]futago.Received, error) {
	recs := make([]futago.Received, len(b.elements))
	for i := range b.elements {
		raw, err := b.elements[i].canonical(b.facility)
		if err != nil {
			return nil, wrong(fmt.Sprintf("DATA[%d]", i), "cannot be read: %v", err)
		}
		if len(raw) > maxRecord {
			e := wrong(fmt.Sprintf("DATA[%d]", i), "is longer than %d bytes", maxRecord)
			e.TooLarge = true
			return nil, e
		}
		recs[i] = like
		recs[i].Raw = raw
	}
	return recs, nil
}

// store appends the records and waits for their commitment. free is called as
// soon as the body is not needed any more.
func (s *Server) store(ctx context.Context, recs []futago.Received, at time.Time, free func()) (receipt, *problem) {
	s.appendMu.Lock()
	_, err := s.cfg.Producer.Append(recs)
	s.appendMu.Unlock()
	free()
	stored := 0
	for i := range recs {
		recs[i].Raw = nil
		if recs[i].Seq != 0 {
			stored++
		}
	}
	s.elements.Add(uint64(stored))
	if stored < len(recs) {
		s.refused.Add(1)
		s.log.Error("custom traps lost: the spool does not take them", "lost", len(recs)-stored, "error", err)
		if first := slices.IndexFunc(recs, func(r futago.Received) bool { return r.Seq == 0 }); stored > 0 {
			return receipt{}, unavailable(
				fmt.Sprintf("only %d of %d elements were stored; DATA[%d] is the first that was not", stored, len(recs), first),
				"send the elements that were not stored again later", false, 30)
		}
		return receipt{}, unavailable("there is no room to store this", "send it again later", false, 30)
	}
	last := recs[len(recs)-1].Seq
	wait, cancel := context.WithTimeout(ctx, s.cfg.CommitTimeout)
	defer cancel()
	err = s.cfg.Commits.WaitAcked(wait, last)
	if err == nil {
		return receipt{Committed: len(recs), ReceivedAt: at.UTC(), FirstSeq: recs[0].Seq, LastSeq: last}, nil
	}
	s.uncommitted.Add(1)
	if futago.CodeOf(err) == futago.CodeCorrupt {
		return receipt{}, unavailable("elements were lost before they were committed", "send all of them again", false, 1)
	}
	return receipt{}, unavailable(
		fmt.Sprintf("stored, and not committed within %s; the cluster has no leader or no quorum now", s.cfg.CommitTimeout),
		"do not send it again: it is recorded as soon as the cluster works", true, 10)
}
