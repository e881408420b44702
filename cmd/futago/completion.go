package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"${enum}."`
}

// Help shows how to install it.
func (*completionCmd) Help() string {
	return `source <(futago completion bash)
futago completion zsh > "${fpath[1]}/_futago"
futago completion fish > ~/.config/fish/completions/futago.fish`
}

// Run prints a script made from the tree of commands.
func (c *completionCmd) Run(e *env, k *kong.Kong) error {
	words := map[string][]string{}
	collect(k.Model.Node, "", words)
	switch c.Shell {
	case "fish":
		for path, ws := range words {
			seen := "__fish_use_subcommand"
			if path != "" {
				seen = "__fish_seen_subcommand_from " + path[strings.LastIndex(path, " ")+1:]
			}
			for _, w := range ws {
				if flag, ok := strings.CutPrefix(w, "--"); ok {
					fmt.Fprintf(e.out, "complete -c futago -n '%s' -l %s\n", seen, flag)
				} else {
					fmt.Fprintf(e.out, "complete -c futago -n '%s' -f -a %s\n", seen, w)
				}
			}
		}
		return nil
	case "zsh":
		fmt.Fprintln(e.out, "#compdef futago\nautoload -U +X bashcompinit && bashcompinit")
	}
	fmt.Fprintln(e.out, "_futago() {\n\tlocal path=\"\" w words=\"\"\n\tfor w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do [[ $w == -* ]] || path=\"${path:+$path }$w\"; done\n\tcase \"$path\" in")
	for path, ws := range words {
		fmt.Fprintf(e.out, "\t%q) words=%q ;;\n", path, strings.Join(ws, " "))
	}
	fmt.Fprintln(e.out, "\tesac\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F _futago futago")
	return nil
}

// collect notes the words that may follow each command path.
func collect(n *kong.Node, path string, words map[string][]string) {
	for _, f := range n.Flags {
		words[path] = append(words[path], "--"+f.Name)
	}
	for _, ch := range n.Children {
		if ch.Type != kong.CommandNode {
			continue
		}
		words[path] = append(words[path], ch.Name)
		collect(ch, strings.TrimSpace(path+" "+ch.Name), words)
	}
}
