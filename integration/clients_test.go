package integration_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"

	"github.com/futago/futago"
	"github.com/futago/futago/integration/lab"
	"github.com/futago/futago/integration/realclient"
	"github.com/futago/futago/integration/rig"
	"github.com/futago/futago/manager"
)

// The programs that send traps in real life, to both managers.

const httpsPort = 8083

// clientSite is a cluster with custom traps over HTTP and HTTPS.
func clientSite(t *testing.T) *site {
	t.Helper()
	return newSite(t, rig.Options{Configure: func(_ string, c *manager.Config) { c.CustomTrap.HTTPS = fmt.Sprintf(":%d", httpsPort) }})
}

// receiver is a manager as the clients see it.
func (s *site) receiver(host string) realclient.Receiver {
	h := s.Lab.Host(host)
	return realclient.Receiver{
		SyslogUDP: h.AddrPort(514), SyslogTCP: h.AddrPort(514), SyslogTLS: h.AddrPort(6514), SNMP: h.AddrPort(162),
		CustomURL: "https://" + h.AddrPort(httpsPort).String() + "/",
		CAFile:    filepath.Join(s.Path("a"), "pki", "ca.crt"),
		User: realclient.User{
			Name: rig.SNMPUser.Name, Auth: rig.SNMPUser.Auth, AuthPass: rig.SNMPUser.AuthPass, Priv: "AES", PrivPass: rig.SNMPUser.PrivPass,
		},
	}
}

// settings changes the intake settings by an operator's hand.
func (s *site) settings(change func(*futago.IntakeSettings)) {
	s.t.Helper()
	s.Await(15*time.Second, "new settings", func() error {
		c := s.api[s.leads()]
		var now futago.IntakeSettings
		if err := c.Get(s.t.Context(), settingsPath, nil, &now); err != nil {
			return err
		}
		change(&now)
		return c.Do(s.t.Context(), http.MethodPut, settingsPath, "", now, nil)
	})
	s.AwaitFull(10 * time.Second)
}

// both checks the event on both managers, received once by each of them, and
// what every event of d1 must have; a and b must show the same.
func (s *site) both(text string, kind futago.Kind, tr futago.Transport) futago.Event {
	s.t.Helper()
	a, b := s.only("a", text, "a", "b"), s.only("b", text, "a", "b")
	ja, err := json.Marshal(a)
	s.must(err)
	jb, err := json.Marshal(b)
	s.must(err)
	if !bytes.Equal(ja, jb) {
		s.t.Errorf("a shows %s\nb shows %s", ja, jb)
	}
	x := a.Trap
	switch {
	case x.Kind != kind || x.Transport != tr || x.Severity != futago.SeverityNotice || !x.Parsed || x.Problem != "" || x.Truncated:
		s.t.Errorf("%s, %s, %s, parsed %t, problem %q, truncated %t", x.Kind, x.Transport, x.Severity, x.Parsed, x.Problem, x.Truncated)
	case x.Source.Addr() != s.Lab.Addr("d1") || x.Source.Port() == 0:
		s.t.Errorf("from %s", x.Source)
	case a.Reason != futago.ReasonPaired:
		s.t.Errorf("reason %s", a.Reason)
	case len(x.Raw) == 0:
		s.t.Error("no bytes are kept")
	}
	return a
}

func TestClients_EachToBothManagers(t *testing.T) {
	s := clientSite(t)
	name, err := os.Hostname()
	s.must(err)
	for i, c := range realclient.All() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Installed(); err != nil {
				t.Skip(err)
			}
			text := fmt.Sprintf(`client %d: こんにちは "quoted" 100%% [x]`, i)
			for _, host := range []string{"a", "b"} {
				if err := c.Send(t.Context(), s.Lab.Host("d1"), s.receiver(host), text); err != nil {
					t.Fatal(err)
				}
			}
			e := s.both(text, c.Kind, c.Transport)
			switch c.Kind {
			case futago.KindSyslog:
				checkSyslog(t, c.Name, e.Trap, name, text)
			case futago.KindSNMPTrap:
				checkSNMP(t, c.Name, e.Trap, s.Lab.Addr("d1").String(), text)
			default:
				u := e.Trap.Custom
				if u == nil || u.FacilityID != "d1" || u.Type != "STRING" || u.Key != realclient.Tag || u.Msg != text || e.Trap.Message != realclient.Tag+"="+text {
					t.Errorf("message %q, fields %+v", e.Trap.Message, u)
				}
			}
		})
	}
}

func checkSyslog(t *testing.T, client string, x futago.Trap, host, text string) {
	t.Helper()
	y := x.Syslog
	if y == nil {
		t.Fatalf("no fields: %+v", x)
	}
	format := "rfc5424"
	if strings.HasSuffix(client, "3164") || strings.HasSuffix(client, "lines") {
		format = "rfc3164"
	}
	// rsyslog keeps the blank between tag and text in the text.
	if strings.TrimPrefix(x.Message, " ") != text || x.Host != host || x.Charset != "utf-8" || !bytes.Contains(x.Raw, []byte(text)) {
		t.Errorf("message %q of host %q in %s, raw %q", x.Message, x.Host, x.Charset, x.Raw)
	}
	if y.Format != format || y.Facility != 3 || !y.HasPRI || y.App != realclient.Tag || time.Since(y.Timestamp).Abs() > 5*time.Minute {
		t.Errorf("fields %+v, expected %s of daemon", *y, format)
	}
	if client == "logger-udp-5424" {
		i := slices.IndexFunc(y.StructuredData, func(e futago.SDElement) bool { return e.ID == "test@32473" })
		if i < 0 || y.MsgID != "TEST" || !slices.Equal(y.StructuredData[i].Params, []futago.SDParam{{Name: "key", Value: "value"}}) {
			t.Errorf("message id %q, structured data %+v", y.MsgID, y.StructuredData)
		}
	}
}

func checkSNMP(t *testing.T, client string, x futago.Trap, from, text string) {
	t.Helper()
	n := x.SNMP
	if n == nil || len(n.Varbinds) == 0 {
		t.Fatalf("no fields: %+v", x)
	}
	last := n.Varbinds[len(n.Varbinds)-1]
	want := futago.Varbind{OID: realclient.TextOID, Type: "OCTET STRING", Value: text}
	if last != want || n.Uptime != 4711 || n.Inform != strings.HasPrefix(client, "snmpinform") {
		t.Errorf("uptime %d, inform %t, bindings %+v", n.Uptime, n.Inform, n.Varbinds)
	}
	switch {
	case strings.HasSuffix(client, "v1"):
		// RFC 3584 section 3.1: enterprise, 0, specific.
		if n.Version != "1" || n.Community != "public" || n.Enterprise != realclient.TrapOID || n.Generic != 6 || n.Specific != 17 ||
			n.AgentAddress != from || n.TrapOID != realclient.TrapOID+".0.17" {
			t.Errorf("%+v", *n)
		}
	case strings.HasSuffix(client, "v2c"):
		if n.Version != "2c" || n.Community != "public" || n.TrapOID != realclient.TrapOID {
			t.Errorf("%+v", *n)
		}
	default:
		if n.Version != "3" || n.User != rig.SNMPUser.Name || n.SecurityLevel != "authPriv" || n.TrapOID != realclient.TrapOID || n.EngineID == "" {
			t.Errorf("%+v", *n)
		}
	}
}

// One rsyslogd that forwards all to both managers, as it is set up in real life.
func TestClients_RsyslogForwardsToBoth(t *testing.T) {
	i := slices.IndexFunc(realclient.All(), func(c realclient.Client) bool { return c.Name == "rsyslog-udp" })
	if err := realclient.All()[i].Installed(); err != nil {
		t.Skip(err)
	}
	s := clientSite(t)
	for via, tr := range map[realclient.RsyslogTransport]futago.Transport{
		realclient.RsyslogUDP: futago.TransportUDP, realclient.RsyslogTCP: futago.TransportTCP, realclient.RsyslogTLS: futago.TransportTLS,
	} {
		t.Run(tr.String(), func(t *testing.T) {
			f, err := realclient.StartRsyslog(t.Context(), s.Lab.Host("d1"), via, s.receiver("a"), s.receiver("b"))
			s.must(err)
			var texts []string
			for n := range 20 {
				texts = append(texts, fmt.Sprintf("forwarded over %s, number %d.", tr, n))
				s.must(f.Log(t.Context(), texts[n]))
			}
			for _, text := range texts {
				s.both(text, futago.KindSyslog, tr)
			}
			s.must(f.Stop(t.Context()))
		})
	}
}

// What a forwarder with a queue has while a manager is dead comes when it is
// back, and pairs with what the other one has recorded.
func TestClients_RsyslogCatchesUp(t *testing.T) {
	i := slices.IndexFunc(realclient.All(), func(c realclient.Client) bool { return c.Name == "rsyslog-tcp" })
	if err := realclient.All()[i].Installed(); err != nil {
		t.Skip(err)
	}
	s := clientSite(t)
	f, err := realclient.StartRsyslog(t.Context(), s.Lab.Host("d1"), realclient.RsyslogTCP, s.receiver("a"), s.receiver("b"))
	s.must(err)
	s.must(f.Log(t.Context(), "before the death of the leader"))
	s.both("before the death of the leader", futago.KindSyslog, futago.TransportTCP)
	dead := s.leads()
	s.kill(dead)
	// TCP notices only with the second write that nobody is there: what the
	// first one carried is gone, and the other manager has it.
	s.must(f.Log(t.Context(), "the first one afterwards"))
	s.only(peer(dead), "the first one afterwards", peer(dead))
	s.must(f.Log(t.Context(), "kept for the dead one"))
	s.only(peer(dead), "kept for the dead one", peer(dead))
	s.start(dead)
	s.AwaitFull(20 * time.Second)
	s.both("kept for the dead one", futago.KindSyslog, futago.TransportTCP)
	s.must(f.Stop(t.Context()))
	s.same()
}

func TestClients_SNMPLevels(t *testing.T) {
	i := slices.IndexFunc(realclient.All(), func(c realclient.Client) bool { return c.Tool == "snmptrap" })
	if err := realclient.All()[i].Installed(); err != nil {
		t.Skip(err)
	}
	s := clientSite(t)
	users := []struct{ realclient.User }{
		{realclient.User{Name: "md5des", Auth: "MD5", AuthPass: "authentication 1", Priv: "DES", PrivPass: "encryption 1"}},
		{realclient.User{Name: "shaaes", Auth: "SHA", AuthPass: "authentication 2", Priv: "AES", PrivPass: "encryption 2"}},
		{realclient.User{Name: "sha224", Auth: "SHA-224", AuthPass: "authentication 3", Priv: "AES", PrivPass: "encryption 3"}},
		{realclient.User{Name: "sha384", Auth: "SHA-384", AuthPass: "authentication 4", Priv: "AES", PrivPass: "encryption 4"}},
		{realclient.User{Name: "sha512", Auth: "SHA-512", AuthPass: "authentication 5", Priv: "AES", PrivPass: "encryption 5"}},
	}
	s.settings(func(set *futago.IntakeSettings) { set.SNMPUsers = nil })
	s.plainUsers(append([]realclient.User{{Name: "nobody"}}, users[0].User, users[1].User, users[2].User, users[3].User, users[4].User)...)
	try := func(u realclient.User, level string, inform bool) {
		t.Run(fmt.Sprintf("%s %s inform=%t", u.Name, level, inform), func(t *testing.T) {
			text := fmt.Sprintf("notification %s %s %t.", u.Name, level, inform)
			for _, host := range []string{"a", "b"} {
				r := s.receiver(host)
				r.User = u
				if err := realclient.Notify(t.Context(), s.Lab.Host("d1"), r, realclient.Notification{Version: "3", Level: level, Inform: inform}, text); err != nil {
					if strings.Contains(err.Error(), "Invalid") {
						t.Skipf("net-snmp is built without it: %v", err)
					}
					t.Fatal(err)
				}
			}
			e := s.both(text, futago.KindSNMPTrap, futago.TransportUDP)
			if n := e.Trap.SNMP; n.User != u.Name || n.SecurityLevel != level || n.Inform != inform {
				t.Errorf("%+v", *n)
			}
		})
	}
	for _, inform := range []bool{false, true} {
		try(realclient.User{Name: "nobody"}, "noAuthNoPriv", inform)
		for _, u := range users {
			try(u.User, "authPriv", inform)
		}
	}
	// Whoever has another passphrase is recorded as such, and informs nobody.
	r := s.receiver("a")
	r.User = users[1].User
	r.User.AuthPass = "not the passphrase"
	n := realclient.Notification{Version: "3", Inform: true, Timeout: 2 * time.Second}
	if err := realclient.Notify(t.Context(), s.Lab.Host("d1"), r, n, "forged"); err == nil {
		t.Error("an inform with a wrong passphrase was answered")
	}
	if found, err := s.with("a", "forged"); err != nil || len(found) != 0 {
		t.Errorf("what a forger wrote is believed: %+v, %v", found, err)
	}
}

// plainUsers sets the users of version 3, with their passphrases in the clear.
func (s *site) plainUsers(users ...realclient.User) {
	s.t.Helper()
	s.Await(15*time.Second, "users", func() error {
		c := s.api[s.leads()]
		var doc map[string]any
		if err := c.Get(s.t.Context(), settingsPath, nil, &doc); err != nil {
			return err
		}
		var list []map[string]string
		for _, u := range users {
			m := map[string]string{"name": u.Name}
			if u.Auth != "" {
				m["auth"], m["auth_pass"] = u.Auth, u.AuthPass
			}
			if u.Priv != "" {
				m["priv"], m["priv_pass"] = u.Priv, u.PrivPass
			}
			list = append(list, m)
		}
		doc["snmp_users"] = list
		return c.Do(s.t.Context(), http.MethodPut, settingsPath, "", doc, nil)
	})
	s.AwaitFull(10 * time.Second)
}

// An inform is answered after its event is committed and not before; repeated
// meanwhile, it is one event.
func TestClients_InformWaitsForTheCommit(t *testing.T) {
	i := slices.IndexFunc(realclient.All(), func(c realclient.Client) bool { return c.Tool == "snmpinform" })
	if err := realclient.All()[i].Installed(); err != nil {
		t.Skip(err)
	}
	s := clientSite(t)
	// Cut off from everybody, and the link to the device works.
	cut := s.leads()
	s.must(s.Lab.Cut(cut, peer(cut)))
	s.must(s.Lab.Cut(cut, "w"))
	s.word(cut, futago.RedundancyStoppedSafe)
	d1, r := s.Lab.Host("d1"), s.receiver(cut)
	answered := make(chan error)
	versions := []string{"2c", "3"}
	for _, version := range versions {
		once := realclient.Notification{Version: version, Inform: true, Timeout: 2 * time.Second}
		if err := realclient.Notify(t.Context(), d1, r, once, "tried once by v"+version); err == nil {
			t.Errorf("an inform of v%s was answered that no majority has", version)
		}
		// The other manager answers meanwhile.
		s.must(realclient.Notify(t.Context(), d1, s.receiver(peer(cut)), once, "to the other one by v"+version))
		s.only(peer(cut), "to the other one by v"+version, peer(cut))
		again := realclient.Notification{Version: version, Inform: true, Timeout: time.Second, Retries: 20}
		go func() { answered <- realclient.Notify(t.Context(), d1, r, again, "tried again by v"+version) }()
	}
	s.spooled(cut, 4)
	select {
	case err := <-answered:
		t.Errorf("answered before it was committed: %v", err)
	case <-time.After(2500 * time.Millisecond): // two repetitions
	}
	s.spooled(cut, 4)
	s.must(s.Lab.HealAll())
	for range versions {
		select {
		case err := <-answered:
			s.must(err)
		case <-time.After(20 * time.Second):
			t.Fatal("no answer after the link was healed")
		}
	}
	for _, version := range versions {
		s.only(cut, "tried again by v"+version, cut)
		s.only(cut, "tried once by v"+version, cut)
	}
	s.same()
}

var charsets = []struct {
	name string
	enc  encoding.Encoding // nil for UTF-8
}{{"utf-8", nil}, {"shift_jis", japanese.ShiftJIS}, {"euc-jp", japanese.EUCJP}}

const japaneseText = "ディスク障害が発生しました。空き容量が不足しています"

func encoded(t *testing.T, e encoding.Encoding, text string) string {
	t.Helper()
	if e == nil {
		return text
	}
	out, err := e.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestClients_Japanese(t *testing.T) {
	s := clientSite(t)
	names := map[string]bool{"logger-udp-3164": true, "logger-tcp-octets": true, "snmptrap-v2c": true}
	for _, c := range realclient.All() {
		if !names[c.Name] {
			continue
		}
		for _, cs := range charsets {
			t.Run(c.Name+" "+cs.name, func(t *testing.T) {
				if err := c.Installed(); err != nil {
					t.Skip(err)
				}
				text := fmt.Sprintf("%s (%s %s)", japaneseText, c.Name, cs.name)
				raw := encoded(t, cs.enc, text)
				for _, host := range []string{"a", "b"} {
					s.must(c.Send(t.Context(), s.Lab.Host("d1"), s.receiver(host), raw))
				}
				e := s.both(text, c.Kind, c.Transport)
				if !bytes.Contains(e.Trap.Raw, []byte(raw)) {
					t.Errorf("raw bytes %q hold no %q", e.Trap.Raw, raw)
				}
				if c.Kind == futago.KindSyslog && (e.Trap.Message != text || e.Trap.Charset != cs.name) {
					t.Errorf("message %q, recognised as %s", e.Trap.Message, e.Trap.Charset)
				}
			})
		}
	}
	// Custom traps name their character set.
	for _, cs := range charsets {
		t.Run("curl "+cs.name, func(t *testing.T) {
			text := fmt.Sprintf("%s (curl %s)", japaneseText, cs.name)
			body := encoded(t, cs.enc, fmt.Sprintf(`{"FacilityID":"設備","DATA":[{"TYPE":"STRING","KEY":"状態","MSG":%q}]}`, text))
			for _, host := range []string{"a", "b"} {
				s.curls(http.StatusOK, host, body, "-H", "Content-Type: application/json; charset="+cs.name)
			}
			e := s.both(text, futago.KindCustomTrap, futago.TransportHTTP)
			if u := e.Trap.Custom; u.FacilityID != "設備" || u.Key != "状態" || u.Msg != text {
				t.Errorf("%+v", *u)
			}
		})
	}
	// Too short to recognise: the setting for the source decides.
	t.Run("by the settings", func(t *testing.T) {
		raw := encoded(t, japanese.EUCJP, "異常")
		s.settings(func(set *futago.IntakeSettings) {
			set.Sources = []futago.SourceRule{{Source: addr(s.Lab, "d1"), Charset: "euc-jp"}}
		})
		for _, host := range []string{"a", "b"} {
			s.datagram(host, 514, []byte("<29>Nov 22 04:05:06 device app[7]: "+raw))
		}
		e := s.both("異常", futago.KindSyslog, futago.TransportUDP)
		if e.Trap.Message != "異常" || e.Trap.Charset != "euc-jp" {
			t.Errorf("message %q, charset %s", e.Trap.Message, e.Trap.Charset)
		}
	})
}

// curled is the answer that curl got.
type curled struct {
	status int
	Detail string `json:"detail"`
	// Element is what is wrong in the body, Spooled whether the trap was kept.
	Element string `json:"element"`
	Spooled *bool  `json:"spooled"`
	text    string
}

// curl posts a custom trap from d1 over HTTP.
func (s *site) curl(host, body string, args ...string) (c curled) {
	s.t.Helper()
	file := filepath.Join(s.Lab.Dir(), "body.json")
	s.must(os.WriteFile(file, []byte(body), 0o600))
	url := "http://" + s.Lab.Host(host).AddrPort(8082).String() + "/"
	if i := slices.Index(args, "--cacert"); i >= 0 {
		url = s.receiver(host).CustomURL
	}
	args = append([]string{"--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code} %{content_type}", "--data-binary", "@" + file, url}, args...)
	out, err := s.Lab.Host("d1").Run(s.t.Context(), lab.Proc{Path: "curl", Args: args})
	s.must(err)
	i := strings.LastIndexByte(out, '\n')
	status, contentType, _ := strings.Cut(out[i+1:], " ")
	c.status, err = strconv.Atoi(status)
	s.must(err)
	c.text = out[:i]
	if c.status >= 300 {
		if contentType != "application/problem+json" {
			s.t.Errorf("a problem of type %s", contentType)
		}
		if err := json.Unmarshal([]byte(c.text), &c); err != nil {
			s.t.Errorf("the answer is no problem document: %s", out)
		}
	}
	return c
}

func (s *site) curls(want int, host, body string, args ...string) (c curled) {
	s.t.Helper()
	if c = s.curl(host, body, args...); c.status != want {
		s.t.Errorf("status %d, expected %d: %s", c.status, want, c.text)
	}
	return c
}

func TestClients_CustomTrapAnswers(t *testing.T) {
	if _, err := os.Stat("/usr/bin/curl"); err != nil {
		t.Skip(err)
	}
	s := clientSite(t)
	element := func(msg string) string { return fmt.Sprintf(`{"TYPE":"STRING","KEY":"k","MSG":%q}`, msg) }
	data := func(elements ...string) string {
		return `{"FacilityID":"f","DATA":[` + strings.Join(elements, ",") + `]}`
	}

	t.Run("several elements", func(t *testing.T) {
		body := data(`{"DATE":"2026-03-01 12:34:56.789","TYPE":"NUM","KEY":"temperature","MSG":"41.5"}`, `{"DATE":"2026-03-01 12:34:56","TYPE":"STRING","KEY":"door","MSG":"open"}`)
		s.curls(http.StatusOK, "a", body)
		s.curls(http.StatusOK, "b", body)
		e := s.both("temperature=41.5", futago.KindCustomTrap, futago.TransportHTTP)
		want := time.Date(2026, 3, 1, 12, 34, 56, 789e6, time.UTC)
		if u := e.Trap.Custom; u.Type != "NUM" || u.Msg != "41.5" || u.Date != "2026-03-01 12:34:56.789" || !u.Timestamp.Equal(want) || u.FacilityID != "f" {
			t.Errorf("%+v", *u)
		}
		s.both("door=open", futago.KindCustomTrap, futago.TransportHTTP)
	})
	t.Run("the sender's zone", func(t *testing.T) {
		s.settings(func(set *futago.IntakeSettings) { set.TimeZone = "Asia/Tokyo" })
		body := data(`{"DATE":"2026-03-01 09:00:00","TYPE":"NUM","KEY":"tokyo","MSG":"1"}`)
		s.curls(http.StatusOK, "a", body)
		s.curls(http.StatusOK, "b", body)
		e := s.both("tokyo=1", futago.KindCustomTrap, futago.TransportHTTP)
		if !e.Trap.Custom.Timestamp.Equal(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%+v", *e.Trap.Custom)
		}
	})
	t.Run("https", func(t *testing.T) {
		for _, host := range []string{"a", "b"} {
			s.curls(http.StatusOK, host, data(element("over TLS")), "--cacert", s.receiver(host).CAFile)
		}
		s.both("k=over TLS", futago.KindCustomTrap, futago.TransportHTTPS)
	})
	t.Run("wrong", func(t *testing.T) {
		for _, c := range []struct {
			name, body, element string
			status              int
			args                []string
		}{
			{"no JSON", `{"DATA":[`, "", http.StatusBadRequest, nil},
			{"no data", `{"FacilityID":"f"}`, "DATA", http.StatusBadRequest, nil},
			{"wrong type", data(element("not recorded"), `{"TYPE":"TEXT","KEY":"k","MSG":"m"}`), "DATA[1].TYPE", http.StatusBadRequest, nil},
			{"no key", data(`{"TYPE":"STRING","MSG":"not recorded"}`), "DATA[0].KEY", http.StatusBadRequest, nil},
			{"no number", data(element("not recorded"), element("not recorded"), `{"TYPE":"NUM","KEY":"k","MSG":"warm"}`), "DATA[2].MSG", http.StatusBadRequest, nil},
			{"wrong date", data(`{"DATE":"yesterday","TYPE":"STRING","KEY":"k","MSG":"not recorded"}`), "DATA[0].DATE", http.StatusBadRequest, nil},
			{"too many", data(slices.Repeat([]string{element("not recorded")}, 1001)...), "DATA", http.StatusRequestEntityTooLarge, nil},
			{"too long", data(element(strings.Repeat("x", 1<<20))), "", http.StatusRequestEntityTooLarge, nil},
			{"compressed", data(element("not recorded")), "", http.StatusUnsupportedMediaType, []string{"-H", "Content-Encoding: gzip"}},
			{"no POST", data(element("not recorded")), "", http.StatusMethodNotAllowed, []string{"-X", "PUT"}},
		} {
			if got := s.curls(c.status, "a", c.body, c.args...); got.Element != c.element || !strings.Contains(got.Detail, c.element) {
				t.Errorf("%s: element %q, expected %q: %s", c.name, got.Element, c.element, got.Detail)
			}
		}
		if found, err := s.with("a", "not recorded"); err != nil || len(found) != 0 {
			t.Errorf("%d events of refused requests, %v", len(found), err)
		}
	})
	t.Run("token", func(t *testing.T) {
		sum := sha256.Sum256([]byte("sesame"))
		s.settings(func(set *futago.IntakeSettings) { set.CustomTrapTokens = []string{hex.EncodeToString(sum[:])} })
		s.curls(http.StatusUnauthorized, "a", data(element("without")))
		s.curls(http.StatusUnauthorized, "b", data(element("without")), "-H", "Authorization: Bearer open")
		for _, host := range []string{"a", "b"} {
			s.curls(http.StatusOK, host, data(element("with the token")), "-H", "Authorization: Bearer sesame")
		}
		s.both("k=with the token", futago.KindCustomTrap, futago.TransportHTTP)
		if found, err := s.with("b", "without"); err != nil || len(found) != 0 {
			t.Errorf("%d events without a token, %v", len(found), err)
		}
		s.settings(func(set *futago.IntakeSettings) { set.CustomTrapTokens = nil })
	})
	t.Run("no quorum", func(t *testing.T) {
		cut := s.leads()
		s.must(s.Lab.Isolate(cut))
		s.must(s.Lab.Heal(cut, "d1"))
		s.word(cut, futago.RedundancyStoppedSafe)
		got := s.curls(http.StatusServiceUnavailable, cut, data(element("kept until later")))
		if got.Spooled == nil || !*got.Spooled {
			t.Errorf("it is not said that the trap was kept: %s", got.text)
		}
		s.must(s.Lab.HealAll())
		s.AwaitFull(20 * time.Second)
		s.only("a", "k=kept until later", cut)
	})
	s.same()
}
