package main

import (
	"cmp"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/futago/futago"
	"github.com/futago/futago/manager"
	"github.com/futago/futago/version"
)

const description = `Two managers that lose no trap: monitoring whose managers back each other up.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed,
5 unavailable (nothing was changed), 6 unknown (it may have taken effect),
130 interrupted.`

// globals are the flags of every command that talks to a manager.
type globals struct {
	API      []string `help:"Managers to talk to (host:port); default is this host's own." env:"FUTAGO_API" placeholder:"HOST:PORT"`
	CA       string   `help:"CA certificate of the cluster (pki/ca.crt)." env:"FUTAGO_CA" placeholder:"FILE"`
	APIToken string   `help:"API token." env:"FUTAGO_TOKEN" placeholder:"TOKEN"`
	Dir      string   `help:"Data directory of this host's manager." env:"FUTAGO_DIR" default:"${dir}"`
	Output   string   `help:"How results are printed: ${enum}." short:"o" enum:"table,json" default:"table"`
	LogLevel string   `help:"Of the daemons: ${enum}." enum:"debug,info,warn,error" default:"info" env:"FUTAGO_LOG_LEVEL"`
	LogJSON  bool     `help:"Daemons log JSON lines in place of text."`
}

// settle makes variables of the environment that are set to nothing count as not set.
func (g *globals) settle() {
	g.API = slices.DeleteFunc(g.API, func(a string) bool { return a == "" })
	g.Dir = cmp.Or(g.Dir, manager.DefaultConfig().DataDir)
}

// cli is the tree of commands.
type cli struct {
	globals

	Init    initCmd    `cmd:"" help:"Make the first manager of a new cluster."`
	Join    joinCmd    `cmd:"" help:"Make this host a member, with a token from a manager."`
	Manager managerCmd `cmd:"" help:"Run this host's member."`
	Witness witnessCmd `cmd:"" help:"Run or manage a witness: the third vote of many clusters."`
	Demo    demoCmd    `cmd:"" help:"Two managers, a witness and sample traps on loopback."`

	Status   statusCmd   `cmd:"" help:"What the cluster can still survive, and what to do."`
	Events   eventsCmd   `cmd:"" help:"List, search and follow events."`
	Event    eventCmd    `cmd:"" help:"Show one event with its receipts."`
	Settings settingsCmd `cmd:"" help:"Show and change the settings of trap intake."`
	User     userCmd     `cmd:"" help:"Manage users."`
	Token    tokenCmd    `cmd:"" help:"Manage API tokens and issue join tokens."`
	Switch   switchCmd   `cmd:"" help:"Hand leadership to the other manager."`
	Seize    seizeCmd    `cmd:"" help:"Let a stopped manager go on alone, by your word, where the third vote cannot."`
	Verify   verifyCmd   `cmd:"" help:"Check the log and the database of a stopped member, entry by entry and row by row."`

	Completion completionCmd    `cmd:"" help:"Print a completion script for your shell."`
	Version    kong.VersionFlag `help:"Print the version."`
}

// vars are the defaults that stand in the help.
func vars() map[string]string {
	return map[string]string{"version": version.String(), "dir": manager.DefaultConfig().DataDir, "config": defaultConfig}
}

// defaultConfig is where a host's configuration is.
const defaultConfig = "/etc/futago/futago.toml"

// examples lays out the examples of a command's help: indented, so that lines
// stay lines.
func examples(lines ...string) string { return "Examples:\n\n  " + strings.Join(lines, "\n  ") }

// Exit codes, for scripts.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitNotFound
	exitNotAllowed
	exitUnavailable
	exitUnknown
	exitInterrupted = 130 // as shells have it: 128 + SIGINT
)

func exitCode(err error) int {
	switch futago.CodeOf(err) {
	case "":
		return exitOK
	case futago.CodeInvalid:
		return exitUsage
	case futago.CodeNotFound:
		return exitNotFound
	case futago.CodeUnauthorized, futago.CodeForbidden:
		return exitNotAllowed
	case futago.CodeUnavailable, futago.CodeNotLeader:
		return exitUnavailable
	case futago.CodeUnknown:
		return exitUnknown
	default:
		return exitFailed
	}
}

// logger of the daemons: text or JSON lines on standard error, for journald.
func (g *globals) logger() *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(g.LogLevel)) // kong has checked the word
	o := &slog.HandlerOptions{Level: l}
	if g.LogJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
