package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/futago/futago"
)

// browser is a real one, steered over its debugging protocol.
type browser struct {
	t  *testing.T
	ws *websocket.Conn
	id int
}

// newBrowser starts a headless Chromium, or skips the test where there is none.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium here")
	}
	if testing.Short() {
		t.Skip("starts a browser")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
		"--remote-debugging-port=0", "--remote-allow-origins=*", "--window-size=1400,1000", "--user-data-dir="+dir, "about:blank")
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		// Its children write to the directory for a moment yet.
		waitFor(t, "end of the browser", func() bool { return os.RemoveAll(dir) == nil })
	})
	var port string
	waitFor(t, "browser", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		port, _, _ = strings.Cut(string(b), "\n")
		return err == nil && port != ""
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://127.0.0.1:"+port+"/json/new?about:blank", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	var tab struct {
		URL string `json:"webSocketDebuggerUrl"`
	}
	if err := json.NewDecoder(res.Body).Decode(&tab); err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.Dial(tab.URL, "", "http://127.0.0.1/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	b := &browser{t: t, ws: ws}
	b.call("Page.enable", nil)
	return b
}

// call sends one command and returns its result; events between are dropped.
func (b *browser) call(method string, params map[string]any) json.RawMessage {
	b.t.Helper()
	b.id++
	_ = b.ws.SetDeadline(time.Now().Add(30 * time.Second))
	if err := websocket.JSON.Send(b.ws, map[string]any{"id": b.id, "method": method, "params": params}); err != nil {
		b.t.Fatal(err)
	}
	for {
		var m struct {
			ID     int             `json:"id"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := websocket.JSON.Receive(b.ws, &m); err != nil {
			b.t.Fatal(err)
		}
		if m.ID != b.id {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error)
		}
		return m.Result
	}
}

// eval evaluates an expression to a string.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var r struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
	}
	if err := json.Unmarshal(b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}), &r); err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprint(r.Result.Value)
}

func (b *browser) open(url string) { b.call("Page.navigate", map[string]any{"url": url}) }

// until waits for an expression to become what is wanted.
func (b *browser) until(expression, want string) {
	b.t.Helper()
	var got string
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%s is %q, want %q\n%s", expression, got, want, b.eval("document.body.innerText"))
		}
	}()
	waitFor(b.t, "page with "+expression, func() bool {
		got = b.eval(expression)
		return got == want
	})
}

// TestConsoleInABrowser signs in, sees events arrive, sees the manager go and
// come back, and reads hostile messages.
func TestConsoleInABrowser(t *testing.T) {
	b := newBrowser(t)
	f := newFake()
	f.users["mai"] = futago.User{Name: "mai", Role: futago.RoleViewer, PasswordHash: passwordHash}
	f.add(trap(futago.KindSyslog, "already there"))
	listen := func(address string) *httptest.Server {
		api := newAPI(t, f, time.Now)
		s := httptest.NewUnstartedServer(api.Handler())
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Listener.Close()
		s.Listener, s.EnableHTTP2 = ln, true
		s.Config.RegisterOnShutdown(func() { _ = api.Close() })
		s.StartTLS()
		return s
	}
	s := listen("127.0.0.1:0")
	address := s.Listener.Addr().String()
	stop := func(s *httptest.Server) {
		s.CloseClientConnections()
		s.Close()
	}
	defer func() { stop(s) }()

	b.open("https://" + address + "/?kind=syslog")
	b.until("document.title", "Sign in – Futago a")
	b.eval(`document.querySelector("[name=name]").value = "mai"; document.querySelector("[name=password]").value = "` + password + `"; document.querySelector(".sign-in button").click()`)
	b.until("document.title", "FULL – Futago a")
	b.until("location.search", "?kind=syslog") // where the reader wanted to go

	first := "document.querySelector('table.events tbody .message')?.innerText"
	b.until(first, "already there")
	f.add(trap(futago.KindSyslog, "arrives <b>live</b> \u202e"))
	b.until(first, "arrives <b>live</b> U+202E")
	b.until("document.querySelector('tr.new .message')?.innerText", "arrives <b>live</b> U+202E")
	f.add(trap(futago.KindSNMPTrap, "of another kind"), trap(futago.KindSyslog, hostile))
	b.until("document.querySelectorAll('table.events tbody tr').length", "3")
	if got := b.eval("document.querySelectorAll('#events script, #events img').length"); got != "0" {
		t.Errorf("%s elements of the sender's are in the page", got)
	}

	// A change of the cluster shows without an event.
	f.mu.Lock()
	f.status.Redundancy = futago.RedundancyNoSpare
	f.mu.Unlock()
	b.until("document.querySelector('.word').innerText", "NO-SPARE")
	b.until("document.title", "NO-SPARE – Futago a")

	// Paused, nothing moves under the reader's eyes.
	b.eval("document.getElementById('pause').click()")
	b.until("document.getElementById('live-mark').innerText", "paused")
	f.add(trap(futago.KindSyslog, "while paused"))
	f.mu.Lock()
	f.status.Redundancy = futago.RedundancyFull
	f.mu.Unlock()
	b.until("document.querySelector('.word').innerText", "FULL") // the state goes on
	b.until("document.querySelectorAll('table.events tbody tr').length", "3")
	b.eval("document.getElementById('pause').click()")
	b.until(first, "while paused")

	// The manager goes, and comes back.
	b.until("document.getElementById('gone').hidden", "true")
	stop(s)
	b.until("document.getElementById('gone').hidden", "false")
	b.until("document.getElementById('gone-peer').href", "https://host-b:7700/")
	s = listen(address)
	f.add(trap(futago.KindSyslog, "after the restart"))
	b.until("document.getElementById('gone').hidden", "true")
	b.until(first, "after the restart") // and the session is still good

	b.eval("document.querySelector('table.events tbody a').click()")
	b.until("document.querySelector('h1')?.innerText", "Event 6 err")
	if violations := b.eval("performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).length"); violations != "0" {
		t.Errorf("%s requests to other hosts", violations)
	}
	if p := os.Getenv("FUTAGO_SCREENSHOT"); p != "" {
		var shot struct {
			Data []byte `json:"data"`
		}
		if err := json.Unmarshal(b.call("Page.captureScreenshot", nil), &shot); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, shot.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
