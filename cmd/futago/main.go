// Command futago is the whole product: manager, witness, and the operators'
// verbs, which are clients of the REST API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // time_zone works on hosts without zone files

	"github.com/alecthomas/kong"

	"github.com/futago/futago"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// env is what every command gets.
type env struct {
	ctx      context.Context //nolint:containedctx // the life of one command
	out, err io.Writer
	global   *globals
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, out, errw io.Writer) int {
	var c cli
	printed := -1
	p, err := kong.New(&c, kong.Name("futago"), kong.Description(description), kong.Vars(vars()),
		kong.Writers(out, errw), kong.Exit(func(n int) { printed = n }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(errw, "futago:", err)
		return exitFailed
	}
	k, err := p.Parse(args)
	if printed >= 0 { // help or version
		return printed
	}
	c.settle()
	if err == nil {
		err = k.Run(&env{ctx: ctx, out: out, err: errw, global: &c.globals})
	} else {
		err = futago.Errorf(futago.CodeInvalid, "%v", err).WithAction("see %s", helpFor(err))
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if err != nil {
		fmt.Fprintln(errw, "futago:", err)
	}
	return exitCode(err)
}

// helpFor names the help of the command that a wrong command line was about.
func helpFor(err error) string {
	if e, ok := errors.AsType[*kong.ParseError](err); ok && e.Context.Selected() != nil {
		return e.Context.Selected().FullPath() + " --help"
	}
	return "futago --help"
}
