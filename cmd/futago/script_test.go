package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"futago": main})
}

// TestScripts runs the stories in testdata: the real command as processes, each
// script on loopback addresses of its own.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole clusters")
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			var r [2]byte
			_, _ = rand.Read(r[:])
			for i, name := range []string{"A", "B", "W", "X"} {
				e.Setenv(name, fmt.Sprintf("127.%d.%d.%d", 1+r[0]%250, r[1], 20+i))
			}
			e.Setenv("NET", fmt.Sprintf("127.%d.%d", 1+r[0]%250, r[1]))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("FUTAGO_LOG_LEVEL", "error")
			return writeConfigs(e)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":   cmdStatus,
			"until":    cmdUntil,
			"save":     cmdSave,
			"jsonedit": cmdJSONEdit,
			"rc":       cmdRC,
			"kill9":    cmdKill9,
			"damage":   cmdDamage,

			"grepfield": cmdGrepField,

			"futago-demo": cmdDemo,
			"interrupt":   cmdInterrupt,
		},
	})
}

// writeConfigs makes a.toml, b.toml and w.toml with every port on the host's own
// address.
func writeConfigs(e *testscript.Env) error {
	for name, host := range map[string]string{"a": e.Getenv("A"), "b": e.Getenv("B"), "x": e.Getenv("X")} {
		text := fmt.Sprintf(`data_dir = %q
api_listen = "%[2]s:7700"
cluster_listen = "%[2]s:7701"
heartbeat = "200ms"
min_free = "1MiB"
[syslog]
udp = "%[2]s:5514"
tcp = "%[2]s:5514"
tls = ""
[snmptrap]
udp = "%[2]s:1162"
[customtrap]
http = "%[2]s:8082"
https = ""
`, filepath.Join(e.WorkDir, name), host)
		if err := os.WriteFile(filepath.Join(e.WorkDir, name+".toml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// patience bounds the waits of a script.
const patience = 40 * time.Second

// run executes futago as the script would and returns output and exit code.
func execute(ts *testscript.TestScript, args ...string) (out string, code int) {
	exe, err := exec.LookPath("futago")
	ts.Check(err)
	cmd := exec.CommandContext(context.Background(), exe, args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "FUTAGO_LOG_LEVEL=error")
	b, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok { //nolint:errorlint // what Run returns
		ts.Fatalf("futago: %v", err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// cmdStatus waits for a word and findings: status DIR WORD [TEXT…].
func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	dir, words := args[0], args[1:]
	wait(ts, func() (string, bool) {
		out, _ := execute(ts, "status", "--dir", ts.MkAbs(dir))
		for _, w := range words {
			if !strings.Contains(out, w) {
				return out, false
			}
		}
		return out, true
	})
}

// cmdUntil repeats a futago command until its output matches: until REGEXP ARG….
func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	re := regexp.MustCompile(args[0])
	wait(ts, func() (string, bool) {
		out, _ := execute(ts, args[1:]...)
		return out, re.MatchString(out)
	})
}

func wait(ts *testscript.TestScript, f func() (string, bool)) {
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		out, ok := f()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not in time; the last output is:\n%s", out)
		}
	}
}

// cmdSave keeps the trimmed output of the last command: save VARIABLE.
func cmdSave(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cmdJSONEdit sets a field of a JSON document: jsonedit FILE FIELD VALUE.
func cmdJSONEdit(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	var doc map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &doc))
	var v any
	ts.Check(json.Unmarshal([]byte(args[2]), &v))
	doc[args[1]] = v
	b, err := json.Marshal(doc)
	ts.Check(err)
	ts.Check(os.WriteFile(path, b, 0o600))
}

// cmdRC runs futago and wants an exit code, and a text in the output:
// rc CODE TEXT ARG….
func cmdRC(ts *testscript.TestScript, _ bool, args []string) {
	out, code := execute(ts, args[2:]...)
	if fmt.Sprint(code) != args[0] || !strings.Contains(out, args[1]) {
		ts.Fatalf("exit code %d, want %s with %q in:\n%s", code, args[0], args[1], out)
	}
	ts.Logf("%s", strings.TrimSpace(out))
}

// cmdDamage changes a byte in each page of a file.
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	for at := 20; at < len(b); at += 512 {
		b[at] ^= 0x55
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// cmdGrepField keeps a field of the last command's JSON in FIELD.
func cmdGrepField(ts *testscript.TestScript, _ bool, args []string) {
	var doc map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &doc))
	ts.Setenv("FIELD", fmt.Sprint(doc[args[0]]))
}

// cmdKill9 kills the process whose id is in a file.
func cmdKill9(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(syscall.Kill(pidIn(ts, args[0]), syscall.SIGKILL))
}

func pidIn(ts *testscript.TestScript, file string) int {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(file)))
	ts.Check(err)
	return pid
}

// demos are the demonstrations under way, by their scripts' directories.
var demos sync.Map

// cmdDemo starts a demonstration in a directory, its output in DIR.out, and
// waits until it says what to try: futago-demo DIR.
func cmdDemo(ts *testscript.TestScript, _ bool, args []string) {
	exe, err := exec.LookPath("futago")
	ts.Check(err)
	out, err := os.Create(ts.MkAbs(args[0] + ".out"))
	ts.Check(err)
	cmd := exec.CommandContext(context.Background(), exe, "demo", "--data", ts.MkAbs(args[0]), "--net", ts.Getenv("NET"), "--rate", "20", "--restart", "2s")
	cmd.Stdout, cmd.Stderr = out, out
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(cmd.Wait(), out.Close()) }()
	stop := func(s os.Signal) error { return errors.Join(cmd.Process.Signal(s), <-ended) }
	demos.Store(ts.MkAbs(args[0]), stop)
	ts.Defer(func() {
		if _, ok := demos.LoadAndDelete(ts.MkAbs(args[0])); ok {
			_ = stop(os.Kill) // the script has failed
		}
	})
	wait(ts, func() (string, bool) {
		text := ts.ReadFile(args[0] + ".out")
		return text, strings.Contains(text, "Ctrl-C ends everything")
	})
}

// cmdInterrupt is Ctrl-C for a demonstration. It must end well, and its parts
// with it: interrupt DIR.
func cmdInterrupt(ts *testscript.TestScript, _ bool, args []string) {
	stop, ok := demos.LoadAndDelete(ts.MkAbs(args[0]))
	if !ok {
		ts.Fatalf("no demonstration in %s", args[0])
	}
	ts.Check(stop.(func(os.Signal) error)(os.Interrupt))
	for _, part := range []string{"witness", "manager-a", "manager-b"} {
		if err := syscall.Kill(pidIn(ts, args[0]+"/"+part+".pid"), 0); err == nil {
			ts.Fatalf("%s is still there", part)
		}
	}
}
