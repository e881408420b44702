package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"text/tabwriter"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
)

const settingsPath = "/api/v1/settings/intake"

type settingsCmd struct {
	Show  settingsShowCmd  `cmd:"" default:"1" help:"Show the settings of trap intake."`
	Apply settingsApplyCmd `cmd:"" help:"Replace them by a JSON document (a file, or - for standard input)."`
}

type settingsShowCmd struct{}

// Help shows how to change settings.
func (*settingsShowCmd) Help() string {
	return examples("futago settings show -o json > intake.json", "editor intake.json", "futago settings apply intake.json")
}

// Run shows the settings.
func (*settingsShowCmd) Run(e *env) error {
	return call(e, func(c *client.Client, out *futago.IntakeSettings) error {
		return c.Get(e.ctx, settingsPath, nil, out)
	}, func(t *tabwriter.Writer, s futago.IntakeSettings) {
		row(t, "Revision", s.Revision)
		row(t, "KIND", "MODE", "WINDOW", "PAIR WITHIN", "FOLD")
		for _, k := range []futago.Kind{futago.KindSyslog, futago.KindSNMPTrap, futago.KindCustomTrap} {
			r, ok := s.Dedup[k]
			if !ok {
				r = futago.DefaultDedupRule()
			}
			row(t, k, r.Mode, r.Window.D(), r.PairWithin.D(), r.Fold.D())
		}
		for _, r := range s.Sources {
			row(t, "Source", r.Source, r.Kinds, r.Charset, describe(r.Dedup))
		}
		row(t, "Communities", s.Communities)
		for _, u := range s.SNMPUsers {
			row(t, "SNMP user", u.Name, u.Auth, u.Priv)
		}
		row(t, "Custom trap tokens", len(s.CustomTrapTokens))
		row(t, "Time zone", s.TimeZone)
	})
}

func describe(r *futago.DedupRule) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%s window %s pair %s fold %s", r.Mode, r.Window.D(), r.PairWithin.D(), r.Fold.D())
}

type settingsApplyCmd struct {
	File string `arg:"" help:"JSON as settings show -o json prints it. Masked secrets stay as they are."`
}

// Run replaces the settings. The revision in the document guards against
// overwriting a change made meanwhile.
func (c *settingsApplyCmd) Run(e *env) error {
	var in io.Reader = os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return futago.Errorf(futago.CodeInvalid, "cannot read the document").Wrap(err)
		}
		defer f.Close()
		in = f
	}
	var doc json.RawMessage
	if err := json.NewDecoder(in).Decode(&doc); err != nil {
		return futago.Errorf(futago.CodeInvalid, "%s is no JSON document", c.File).Wrap(err)
	}
	return call(e, func(cl *client.Client, out *futago.IntakeSettings) error {
		return cl.Do(e.ctx, http.MethodPut, settingsPath, newKey(), doc, out)
	}, func(t *tabwriter.Writer, s futago.IntakeSettings) {
		row(t, "Settings replaced; revision", s.Revision)
	})
}
