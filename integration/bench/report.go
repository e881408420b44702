package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/futago/futago/atomicfile"
)

// suite is one JSON file of results.
type suite[T any] struct {
	Command string      `json:"command"`
	At      time.Time   `json:"at"`
	Commit  string      `json:"commit"`
	Machine machineInfo `json:"machine"`
	Results T           `json:"results"`
}

func newSuite[T any](ctx context.Context, results T) *suite[T] {
	return &suite[T]{
		Command: commandLine(), At: time.Now().UTC().Truncate(time.Second), Commit: commit(ctx), Machine: readMachine(), Results: results,
	}
}

// commandLine is how to measure the same again.
func commandLine() string {
	words := []string{"integration/bench.sh"}
	for i := 1; i < len(os.Args); i++ {
		if os.Args[i] == "-doc" { // the script's own
			i++
			continue
		}
		words = append(words, os.Args[i])
	}
	if len(words) == 1 {
		return "make bench"
	}
	return strings.Join(words, " ")
}

// save writes a suite's file.
func save[T any](ctx context.Context, o *options, name string, results T) error {
	b, err := json.MarshalIndent(newSuite(ctx, results), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.out, name+".json"), append(b, '\n'), 0o644) //nolint:gosec // for everybody
}

// read reads a suite's file; nil when it was never measured here.
func read[T any](o *options, name string) (*suite[T], error) {
	b, err := os.ReadFile(filepath.Join(o.out, name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := new(suite[T])
	return s, json.Unmarshal(b, s)
}

// The tables stand between these lines of the document.
const (
	markBegin = "<!-- tables: written by make bench -->"
	markEnd   = "<!-- end of tables -->"
)

// render writes the tables of all results that are there into the document.
func render(o *options) error {
	var b bytes.Buffer
	for _, f := range []func(*bytes.Buffer, *options) error{renderTraps, renderWrites, renderHistory, renderPeer} {
		if err := f(&b, o); err != nil {
			return err
		}
	}
	if fi, err := os.Stat(o.bin); err == nil {
		fmt.Fprintf(&b, "Size of the one static binary: %.1f MB (goal: under 40 MB).\n", float64(fi.Size())/1e6)
	}
	doc, err := os.ReadFile(o.doc)
	if err != nil {
		return err
	}
	head, rest, ok1 := strings.Cut(string(doc), markBegin)
	_, tail, ok2 := strings.Cut(rest, markEnd)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no place for the tables", o.doc)
	}
	return atomicfile.Write(o.doc, []byte(head+markBegin+"\n\n"+b.String()+"\n"+markEnd+tail), 0o644)
}

func heading[T any](b *bytes.Buffer, title string, s *suite[T]) {
	m := s.Machine
	fmt.Fprintf(b, "### %s\n\n`%s`, %s, source %s. %s, %d cores, %d GiB, Linux %s, %s.\n\n",
		title, s.Command, s.At.Format("2006-01-02 15:04 UTC"), s.Commit, m.CPU, m.Cores, m.Memory>>30, m.Kernel, m.Go)
}

func mib(n int64) string { return fmt.Sprintf("%d", n>>20) }

func renderTraps(b *bytes.Buffer, o *options) error {
	s, err := read[[]*loadResult](o, "traps")
	if err != nil || s == nil {
		return err
	}
	heading(b, "Traps to both managers, recorded once, committed on both", s)
	b.WriteString("| load | goal | offered /s | for | committed on both /s | last commit after last arrival | age of newest event, median / max | kernel drops | missing / too many | processor cores: leader + standby, sender | machine busy | load before |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range s.Results {
		lead, stand, drops := 0.0, 0.0, int64(0)
		for _, m := range r.Members {
			if m.Leads {
				lead = m.CPU
			} else {
				stand = m.CPU
			}
			drops += m.Drops
		}
		audit := fmt.Sprintf("%d / %d", r.Missing, r.Excess)
		if !r.Audited {
			audit = "not audited"
		}
		fmt.Fprintf(b, "| %s | %s | %.0f | %.0f s | %.0f | %.2f s | %.2f / %.2f s | %d | %s | %.2f + %.2f, %.2f | %.0f %% | %.1f |\n",
			r.Name, r.Goal, r.Offered, r.Seconds, r.Committed, r.Drain, r.LagMedian, r.LagMax, drops, audit, lead, stand, r.Sender, 100*r.Busy, r.Load)
	}
	b.WriteString("\n| load | peak memory of a manager: own / mapped files, MiB (leader; standby) | of the witness | bytes written per trap and manager |\n|---|---|---|---|\n")
	for _, r := range s.Results {
		var mem []string
		var written int64
		for _, m := range r.Members {
			mem = append(mem, mib(m.Memory.Anonymous)+" / "+mib(m.Memory.File))
			written += m.Written
		}
		fmt.Fprintf(b, "| %s | %s | %s / %s | %d |\n", r.Name, strings.Join(mem, "; "), mib(r.Witness.Anonymous), mib(r.Witness.File),
			written/int64(max(r.Sent*len(r.Members), 1)))
	}
	for _, r := range s.Results {
		if r.Problem != "" {
			fmt.Fprintf(b, "\nProblem in %s: %s\n", r.Name, r.Problem)
		}
	}
	b.WriteString("\n")
	return nil
}

func renderWrites(b *bytes.Buffer, o *options) error {
	s, err := read[[]*writeResult](o, "writes")
	if err != nil || s == nil {
		return err
	}
	heading(b, "Single replicated changes", s)
	b.WriteString("| change | clients | goal | writes /s | p50 ms | p99 ms | max ms | failed | load before |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range s.Results {
		fmt.Fprintf(b, "| %s | %d | %s | %.0f | %.2f | %.2f | %.1f | %d | %.1f |\n", r.Name, r.Clients, r.Goal, r.Rate, r.P50, r.P99, r.Max, r.Failed, r.Load)
	}
	b.WriteString("\n")
	return nil
}

func renderHistory(b *bytes.Buffer, o *options) error {
	s, err := read[[]*historyResult](o, "history")
	if err != nil || s == nil {
		return err
	}
	heading(b, "A long history", s)
	row := func(name string, f func(*historyResult) string) {
		fmt.Fprintf(b, "| %s |", name)
		for _, r := range s.Results {
			fmt.Fprintf(b, " %s |", f(r))
		}
		b.WriteString("\n")
	}
	row("", func(r *historyResult) string { return fmt.Sprintf("%d events", r.Events) })
	b.WriteString("|---|" + strings.Repeat("---|", len(s.Results)) + "\n")
	ms := func(v float64) string { return fmt.Sprintf("%.0f ms", v) }
	row("database, search index", func(r *historyResult) string {
		return fmt.Sprintf("%d MiB, %d MiB", r.DatabaseBytes>>20, r.IndexBytes>>20)
	})
	row("snapshot after 20,000 traps", func(r *historyResult) string { return ms(r.Snapshot) })
	row("standby killed and started, until it takes part", func(r *historyResult) string { return ms(r.Restart) })
	row("leader killed and started, until it takes part", func(r *historyResult) string { return ms(r.LeaderBack) })
	row("peak memory: own / mapped files, MiB", func(r *historyResult) string { return mib(r.Memory.Anonymous) + " / " + mib(r.Memory.File) })
	row("load average before", func(r *historyResult) string { return fmt.Sprintf("%.1f", r.Load) })
	b.WriteString("\nA page of 100 events by the REST API: the first request, then the median and the greatest of 15 (goal: under 100 ms).\n\n| page |")
	for _, r := range s.Results {
		fmt.Fprintf(b, " %d events |", r.Events)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(s.Results)) + "\n")
	for i, p := range s.Results[0].Pages {
		fmt.Fprintf(b, "| %s |", p.Name)
		for _, r := range s.Results {
			p := r.Pages[i]
			fmt.Fprintf(b, " %.1f, %.1f / %.1f ms, %d found |", p.First, p.Median, p.Max, p.Events)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	return nil
}

func renderPeer(b *bytes.Buffer, o *options) error {
	s, err := read[*peerReport](o, "peer")
	if err != nil || s == nil {
		return err
	}
	heading(b, "Beside rsyslog and PostgreSQL with a synchronous standby", s)
	r := s.Results
	if r.Skipped != "" {
		fmt.Fprintf(b, "SKIPPED: %s\n\n", r.Skipped)
		return nil
	}
	b.WriteString("| | offered /s | sent | stored | kernel drops | stored /s | load before |\n|---|---|---|---|---|---|---|\n")
	for _, p := range r.Peers {
		name := p.Name
		if p.CutOff {
			name += fmt.Sprintf(" (cut off %.0f s after the last trap)", peerPatience.Seconds())
		}
		fmt.Fprintf(b, "| %s | %.0f | %d | %d | %d | %.0f | %.1f |\n", name, p.Offered, p.Sent, p.Stored, p.Drops, p.Rate, p.Load)
	}
	drops := int64(0)
	for _, m := range r.Futago.Members {
		drops += m.Drops
	}
	fmt.Fprintf(b, "| Futago, to both managers, on both | %.0f | %d | %d | %d | %.0f | %.1f |\n\n",
		r.Futago.Offered, r.Futago.Sent, uint64(r.Futago.Sent)-r.Futago.Missing, drops, r.Futago.Committed, r.Futago.Load)
	fmt.Fprintf(b, "Ratio: %.1f times the best of the peer's, %.1f times its default.\n\n", r.Ratio, r.RatioDefault)
	return nil
}
