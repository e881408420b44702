// Command testreport reads the output of go test -json, prints failures with
// their output and every skip with its reason, and closes with a count. It
// fails when a test was skipped that this machine could have run.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is one line of go test -json (see go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

func main() {
	code, err := report(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// needs maps a word in a skip's reason to what proves that the test could have run.
var needs = []struct {
	word  string
	there func() bool
}{
	{"root", func() bool { return os.Geteuid() == 0 }},
	{"not installed", func() bool { return false }},
	{"snmptrap", inPath("snmptrap")},
	{"rsyslog", inPath("rsyslogd")},
	{"logger", inPath("logger")},
	{"curl", inPath("curl")},
	{"nft", inPath("nft")},
}

func inPath(name string) func() bool {
	return func() bool { _, err := exec.LookPath(name); return err == nil }
}

func report(in io.Reader, out io.Writer) (int, error) {
	output := map[string]*strings.Builder{}
	var passed, failed, skipped int
	var bad, skips []string
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil {
			fmt.Fprintln(out, sc.Text()) // a build's own words
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			output[key].WriteString(e.Output)
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "pass":
			if e.Test != "" {
				passed++
			} else {
				fmt.Fprintf(out, "ok    %s %.1fs\n", e.Package, e.Elapsed)
			}
		case "fail":
			if e.Test != "" {
				failed++
			}
			bad = append(bad, key)
		case "skip":
			if e.Test != "" {
				skipped++
				skips = append(skips, key)
			}
		}
	}
	for _, k := range bad {
		fmt.Fprintf(out, "\nFAIL  %s\n%s", k, tail(output[k], 200))
	}
	could := 0
	slices.Sort(skips)
	for _, k := range skips {
		reason := tail(output[k], 6)
		fmt.Fprintf(out, "SKIP  %s: %s\n", k, strings.Join(strings.Fields(reason), " "))
		for _, n := range needs {
			if strings.Contains(reason, n.word) && n.there() {
				fmt.Fprintf(out, "FAIL  this machine could have run it: %q is there\n", n.word)
				could++
				break
			}
		}
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", passed, failed+could, skipped)
	if len(bad) > 0 || could > 0 || passed == 0 {
		return 1, sc.Err()
	}
	return 0, sc.Err()
}

func tail(b *strings.Builder, lines int) string {
	if b == nil {
		return ""
	}
	all := strings.SplitAfter(b.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
