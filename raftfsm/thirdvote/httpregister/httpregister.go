package httpregister

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/witness"
)

const (
	// DefaultTimeout bounds one operation whose context has no nearer end.
	DefaultTimeout = 2 * time.Second
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 64 << 10
	// maxIdleConns is enough for a read and a write under way at once.
	maxIdleConns = 2
	// idleTimeout must be shorter than the witness's, so that this end closes
	// first and a request does not meet a connection being closed.
	idleTimeout = time.Minute
	keepAlive   = 5 * time.Second
)

// Options say which register to use, and how.
type Options struct {
	// Invitation names the witness, the cluster, the pin and the token.
	Invitation witness.Invitation
	// Timeout bounds each operation; DefaultTimeout if zero.
	Timeout time.Duration
	// Dial replaces the dialler, for tests; nil for TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Register is the record of one cluster at a witness. It is safe for
// concurrent use. Close it to give its connections back.
type Register struct {
	record  string // URL
	token   string
	timeout time.Duration
	client  *http.Client
	tr      *http.Transport
}

var _ register.Register = (*Register)(nil)

// New returns the register; it does not connect. An error is a *futago.Error
// with CodeInvalid.
func New(o Options) (*Register, error) {
	// A round trip checks every part of the invitation.
	inv, err := witness.ParseInvitation(o.Invitation.Encode())
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(inv.URL)
	if err != nil {
		return nil, futago.Errorf(futago.CodeInvalid, "%q is no address of a witness", inv.URL)
	}
	pin, err := witness.DecodePin(inv.Pin)
	if err != nil {
		return nil, err
	}
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3}}).DialContext
	}
	tr := &http.Transport{
		DialTLSContext:         dialTLS(dial, pin),
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxIdleConnsPerHost:    maxIdleConns,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
	}
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &Register{
		record:  u.JoinPath("v1", "clusters", inv.Cluster, "record").String(),
		token:   inv.Token,
		timeout: timeout,
		tr:      tr,
		client: &http.Client{
			Transport:     tr,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes idle connections. Operations under way are not disturbed.
func (r *Register) Close() error {
	r.tr.CloseIdleConnections()
	return nil
}

// dialTLS connects and checks that the other end has the key that the pin
// names. Name and dates in the certificate do not matter: the key alone is
// the identity of a witness.
func dialTLS(dial func(ctx context.Context, network, address string) (net.Conn, error), pin [sha256.Size]byte) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		conn := tls.Client(raw, &tls.Config{
			ServerName:         host,
			MinVersion:         tls.VersionTLS13,
			NextProtos:         []string{"http/1.1"},
			InsecureSkipVerify: true, //nolint:gosec // the pin is checked instead
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) == 0 || !pinned(s.PeerCertificates[0], pin) {
					return futago.Errorf(futago.CodeForbidden, "%s is not the witness of the invitation: its key is another one", address).
						WithAction("check the address; if the witness lost its data directory, see futago seize in docs/third-vote.md")
				}
				return nil
			},
		})
		if err := conn.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		return &watchedConn{Conn: conn}, nil
	}
}

func pinned(c *x509.Certificate, pin [sha256.Size]byte) bool {
	got := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return subtle.ConstantTimeCompare(got[:], pin[:]) == 1
}

// Read implements [register.Register]. The witness answers from what is
// flushed to its disk at that moment.
func (r *Register) Read(ctx context.Context) (register.Record, error) {
	a := r.do(ctx, http.MethodGet, nil, nil)
	switch {
	case a.err != nil:
		return register.Record{}, outcome(register.ErrUnavailable, a.err)
	case a.status == http.StatusOK && a.record != nil:
		return *a.record, nil
	case a.status == http.StatusNotFound && a.problem != nil && a.problem.Code == futago.CodeNotFound:
		return register.Record{}, outcome(register.ErrMissing, a.reason())
	default:
		return register.Record{}, outcome(register.ErrUnavailable, a.reason())
	}
}

// CompareAndSet implements [register.Register]. It makes one attempt.
func (r *Register) CompareAndSet(ctx context.Context, old, next register.Record) (register.Record, error) {
	if err := old.Validate(); err != nil {
		return register.Record{}, err
	}
	if next.Nonce == old.Nonce {
		return register.Record{}, errors.New("record: the nonce is not new")
	}
	next.Version = old.Version + 1
	if err := next.Validate(); err != nil {
		return register.Record{}, err
	}
	rec, conflict, err := r.write(ctx, "If-Match", etag(old), next)
	if conflict != nil {
		return register.Record{}, conflict
	}
	return rec, err
}

// Create implements [register.Register]. It makes one attempt.
func (r *Register) Create(ctx context.Context, first register.Record) (register.Record, error) {
	first.Version = 1
	if err := first.Validate(); err != nil {
		return register.Record{}, err
	}
	rec, conflict, err := r.write(ctx, "If-None-Match", "*", first)
	if conflict != nil {
		return register.Record{}, outcome(register.ErrExists, fmt.Errorf("found %v", conflict.Current))
	}
	return rec, err
}

// write sends next and judges the answer.
func (r *Register) write(ctx context.Context, condition, value string, next register.Record) (register.Record, *register.ConflictError, error) {
	body, err := json.Marshal(next)
	if err != nil {
		return register.Record{}, nil, err
	}
	a := r.do(ctx, http.MethodPut, http.Header{condition: {value}, "Content-Type": {"application/json"}}, body)
	unknown := func() (register.Record, *register.ConflictError, error) {
		return register.Record{}, nil, outcome(register.ErrAmbiguous, a.reason())
	}
	switch {
	case a.err != nil && a.unsent:
		return register.Record{}, nil, outcome(register.ErrUnavailable, a.err)
	case a.err != nil:
		return unknown()
	case a.status == http.StatusOK && a.record != nil && *a.record == next:
		return next, nil, nil
	case !a.once || a.problem == nil:
		return unknown()
	}
	switch a.status {
	case http.StatusPreconditionFailed:
		cur := a.problem.record
		if cur == nil || cur.Same(next) {
			return unknown()
		}
		return register.Record{}, &register.ConflictError{Current: *cur}, nil
	case http.StatusNotFound:
		if a.problem.Code != futago.CodeNotFound {
			return unknown()
		}
		return register.Record{}, nil, outcome(register.ErrMissing, a.reason())
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusPreconditionRequired,
		http.StatusInsufficientStorage:
		// The witness says these before it writes, or after a write that left
		// nothing behind.
		return register.Record{}, nil, outcome(register.ErrUnavailable, a.reason())
	default:
		return unknown()
	}
}

// answer is what came back to one request, as far as it could be read.
type answer struct {
	err     error // nothing readable came back
	unsent  bool  // with err: certainly nothing was sent
	once    bool  // one copy of the request was sent at most
	status  int
	record  *register.Record // of an answer 200
	problem *problem
}

// problem is a witness.Problem with its record decoded.
type problem struct {
	witness.Problem
	record *register.Record
}

// reason returns the answer, or its absence, as an error.
func (a *answer) reason() error {
	switch {
	case a.err != nil:
		return a.err
	case a.problem != nil:
		return futago.Errorf(a.problem.Code, "witness: %s", a.problem.Detail).WithAction("%s", a.problem.Action)
	default:
		return fmt.Errorf("witness: answer %d that makes no sense", a.status)
	}
}

func (r *Register) do(ctx context.Context, method string, header http.Header, body []byte) *answer {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var tried attempts
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(tried.watch(ctx), method, r.record, content)
	if err != nil {
		return &answer{err: err, unsent: true}
	}
	if header != nil {
		req.Header = header
	}
	// Without GetBody the transport cannot send the body a second time.
	req.GetBody = nil
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := r.client.Do(req)
	if err != nil {
		return &answer{err: plain(err), unsent: tried.unsent()}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("witness: answer longer than %d bytes", maxAnswer)
	}
	if err != nil {
		return &answer{err: err}
	}
	a := &answer{status: resp.StatusCode, once: tried.once()}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return a
	}
	switch {
	case resp.StatusCode == http.StatusOK && kind == "application/json":
		a.record = decodeRecord(data, resp.Header.Get("ETag"))
	case resp.StatusCode != http.StatusOK && kind == witness.ProblemType:
		a.problem = decodeProblem(data, resp)
	}
	return a
}

// decodeRecord returns nil unless data is a whole record that fits its tag.
func decodeRecord(data []byte, tag string) *register.Record {
	var rec register.Record
	if json.Unmarshal(data, &rec) != nil || rec.Validate() != nil || etag(rec) != tag {
		return nil
	}
	return &rec
}

// decodeProblem returns nil unless data is a problem about this very answer.
func decodeProblem(data []byte, resp *http.Response) *problem {
	var p problem
	if json.Unmarshal(data, &p.Problem) != nil || p.Status != resp.StatusCode || p.Code == "" {
		return nil
	}
	if len(p.Record) > 0 {
		p.record = decodeRecord(p.Record, resp.Header.Get("ETag"))
	}
	return &p
}

// etag is the tag that the witness gives a record.
func etag(r register.Record) string {
	return `"` + strconv.FormatUint(r.Version, 10) + "-" + r.Nonce.String() + `"`
}

// plain removes the method and URL that net/http puts before an error.
func plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("witness %s: %w", hostOf(e.URL), e.Err)
	}
	return err
}

func hostOf(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Host
	}
	return s
}

// outcome joins what an error means for the caller with its cause.
func outcome(kind, cause error) error { return fmt.Errorf("%w: %w", kind, cause) }
