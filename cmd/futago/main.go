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

// run executes one command line and returns the exit code, see exitCode.
func run(ctx context.Context, args []string, out, errw io.Writer) int {
	var c cli
	code := -1
	p, err := kong.New(&c, kong.Name("futago"), kong.Description(description), kong.UsageOnError(),
		kong.Writers(out, errw), kong.Exit(func(n int) { code = n }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), vars())
	if err != nil {
		fmt.Fprintln(errw, "futago:", err)
		return exitUsage
	}
	k, err := p.Parse(args)
	if code >= 0 { // help or version was printed
		return code
	}
	if err == nil {
		err = k.Run(&env{ctx: ctx, out: out, err: errw, global: &c.globals})
	} else {
		err = futago.Errorf(futago.CodeInvalid, "%v", err).WithAction("see futago --help")
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(errw, "futago:", err)
	}
	return exitCode(err)
}
