package witness

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/url"
	"regexp"
	"strings"

	"github.com/futago/futago"
)

// invitationPrefix names the format, so that a later one can be told apart.
const invitationPrefix = "fgw1."

// pinPrefix is how curl --pinnedpubkey writes a pin, so that an operator can
// try a witness by hand.
const pinPrefix = "sha256//"

// maxInvitation bounds what ParseInvitation looks at, in bytes.
const maxInvitation = 8 << 10

// clusterName is what a cluster may be called: it stands in a path and in a
// file name.
var clusterName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ValidCluster reports whether name can be the name of a cluster: 1 to 63
// lower-case letters, digits and hyphens, not beginning with a hyphen.
func ValidCluster(name string) bool { return clusterName.MatchString(name) }

// Invitation is all a cluster needs to use a witness. It holds a secret: log
// it only through slog, which shows it masked.
type Invitation struct {
	URL     string `json:"url"`     // https://host:port
	Cluster string `json:"cluster"` // see ValidCluster
	Pin     string `json:"pin"`     // "sha256//" and the base64 SHA-256 of the certificate's public key
	Token   string `json:"token"`   // bearer token of this cluster
}

// Encode returns the invitation as one line to copy and paste.
func (i Invitation) Encode() string {
	b, err := json.Marshal(i)
	if err != nil {
		panic(err) // four strings always encode
	}
	return invitationPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// String leaves the token out.
func (i Invitation) String() string { return i.URL + " for cluster " + i.Cluster }

// LogValue leaves the token out.
func (i Invitation) LogValue() slog.Value {
	return slog.GroupValue(slog.String("url", i.URL), slog.String("cluster", i.Cluster), slog.String("pin", i.Pin))
}

// ParseInvitation reads what Encode wrote. White space around it, and line
// breaks within it from a terminal, are ignored. The error is a
// *futago.Error with CodeInvalid and never repeats the secret.
func ParseInvitation(s string) (Invitation, error) {
	const action = "copy the whole line that `futago witness invite` printed"
	if len(s) > maxInvitation {
		return Invitation{}, futago.Errorf(futago.CodeInvalid, "witness invitation is longer than %d bytes", maxInvitation).WithAction(action)
	}
	s = strings.Join(strings.Fields(s), "")
	body, ok := strings.CutPrefix(s, invitationPrefix)
	if !ok {
		return Invitation{}, futago.Errorf(futago.CodeInvalid, "witness invitation does not begin with %q", invitationPrefix).WithAction(action)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return Invitation{}, futago.Errorf(futago.CodeInvalid, "witness invitation is damaged or cut short").WithAction(action)
	}
	var i Invitation
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&i); err != nil || d.More() {
		return Invitation{}, futago.Errorf(futago.CodeInvalid, "witness invitation is damaged or cut short").WithAction(action)
	}
	if err := i.validate(); err != nil {
		return Invitation{}, err.WithAction(action)
	}
	return i, nil
}

// validate returns nil when every part can be used.
func (i Invitation) validate() *futago.Error {
	if err := validURL(i.URL); err != nil {
		return err
	}
	if !ValidCluster(i.Cluster) {
		return badCluster(i.Cluster)
	}
	if _, err := DecodePin(i.Pin); err != nil {
		return futago.Errorf(futago.CodeInvalid, "pin of the witness is damaged")
	}
	if !validToken(i.Token) {
		return futago.Errorf(futago.CodeInvalid, "token for the witness is damaged")
	}
	return nil
}

// badCluster is the refusal of a name.
func badCluster(name string) *futago.Error {
	return futago.Errorf(futago.CodeInvalid, "%.80q cannot be a cluster's name", name).
		WithAction("use 1 to 63 lower-case letters, digits and hyphens")
}

// validURL accepts https://host[:port] alone: paths are the service's own.
func validURL(s string) *futago.Error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return futago.Errorf(futago.CodeInvalid, "%.200q is no address of a witness", s).WithAction("write https://host:port")
	}
	return nil
}

// Pin returns the pin of a public key in DER (SubjectPublicKeyInfo) form.
func Pin(spki []byte) string {
	sum := sha256.Sum256(spki)
	return pinPrefix + base64.StdEncoding.EncodeToString(sum[:])
}

// DecodePin returns the SHA-256 in a pin.
func DecodePin(pin string) ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	body, ok := strings.CutPrefix(pin, pinPrefix)
	b, err := base64.StdEncoding.Strict().DecodeString(body)
	if !ok || err != nil || len(b) != len(sum) {
		return sum, futago.Errorf(futago.CodeInvalid, "%.80q is no certificate pin", pin)
	}
	copy(sum[:], b)
	return sum, nil
}

// tokenBytes is the length of a token before encoding: nobody guesses it, so
// a plain SHA-256 of it is enough to keep.
const tokenBytes = 32

func newToken() string {
	b := make([]byte, tokenBytes)
	rand.Read(b) //nolint:errcheck // crypto/rand.Read never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(b)
}

func validToken(t string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(t)
	return err == nil && len(b) == tokenBytes
}
