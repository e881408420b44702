package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"${enum}."`
}

// Help shows how to install it.
func (*completionCmd) Help() string {
	return examples(
		"source <(futago completion bash)                 in ~/.bashrc",
		"source <(futago completion zsh)                  in ~/.zshrc, after compinit",
		"futago completion fish > ~/.config/fish/completions/futago.fish",
	)
}

// Run prints a script made from the tree of commands.
func (c *completionCmd) Run(e *env, k *kong.Kong) error {
	var t completions
	t.collect(k.Model.Node, "")
	switch c.Shell {
	case "fish":
		_, err := fmt.Fprint(e.out, t.fish())
		return err
	case "zsh":
		if _, err := fmt.Fprintln(e.out, "autoload -U +X bashcompinit && bashcompinit"); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(e.out, t.bash())
	return err
}

// completions is what may follow what.
type completions struct {
	paths  []pathWords // in the order of the tree
	values []flagWords // flags that take a value, with the words for it if they are known
}

type pathWords struct {
	path  string // commands so far: "token join"
	words []string
}

type flagWords struct{ flag, words string }

// collect notes the words that may follow each command path.
func (t *completions) collect(n *kong.Node, path string) {
	p := pathWords{path: path}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			p.words = append(p.words, "--"+f.Name)
			t.flag(f)
		}
	}
	at := len(t.paths)
	t.paths = append(t.paths, p)
	for _, ch := range n.Children {
		if ch.Type == kong.CommandNode {
			t.paths[at].words = append(t.paths[at].words, ch.Name)
			t.collect(ch, strings.TrimSpace(path+" "+ch.Name))
		}
	}
	for _, arg := range n.Positional {
		if arg.Enum != "" {
			t.paths[at].words = append(t.paths[at].words, arg.EnumSlice()...)
		}
	}
}

func (t *completions) flag(f *kong.Flag) {
	if f.IsBool() {
		return
	}
	w := flagWords{flag: "--" + f.Name}
	if f.Enum != "" {
		w.words = strings.Join(f.EnumSlice(), " ")
	}
	names := []flagWords{w}
	if f.Short != 0 {
		names = append(names, flagWords{"-" + string(f.Short), w.words})
	}
	for _, n := range names {
		if i := slices.IndexFunc(t.values, func(o flagWords) bool { return o.flag == n.flag }); i < 0 {
			t.values = append(t.values, n)
		}
	}
}

// bash makes a function that walks over the words before the cursor.
func (t *completions) bash() string {
	var b strings.Builder
	b.WriteString("_futago_words() {\n\tcase \"$1\" in\n")
	for _, p := range t.paths {
		fmt.Fprintf(&b, "\t%q) echo %q ;;\n", p.path, strings.Join(p.words, " "))
	}
	b.WriteString("\t*) return 1 ;;\n\tesac\n}\n_futago_values() {\n\tcase \"$1\" in\n")
	for _, v := range t.values {
		fmt.Fprintf(&b, "\t%s) echo %q ;;\n", v.flag, v.words)
	}
	b.WriteString(`	*) return 1 ;;
	esac
}
_futago() {
	local path="" flag="" w="" words="" cur="${COMP_WORDS[COMP_CWORD]}"
	for w in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		if [[ $w == "=" ]]; then
			continue
		elif [[ -n $flag ]]; then
			flag=""
		elif _futago_values "$w" >/dev/null; then
			flag="$w"
		elif _futago_words "${path:+$path }$w" >/dev/null; then
			path="${path:+$path }$w"
		fi
	done
	if [[ $cur == "=" ]]; then cur=""; fi
	if [[ -n $flag ]]; then words=$(_futago_values "$flag"); else words=$(_futago_words "$path"); fi
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _futago futago
`)
	return b.String()
}

// fish makes the same of fish's own commands.
func (t *completions) fish() string {
	var b strings.Builder
	b.WriteString("function __futago_at\n\tset -l path\n\tset -l skip 0\n\tfor w in (commandline -opc)[2..-1]\n\t\tif test $skip = 1\n\t\t\tset skip 0\n\t\t\tcontinue\n\t\tend\n\t\tswitch $w\n")
	var flags, paths []string
	for _, v := range t.values {
		flags = append(flags, "'"+v.flag+"'")
	}
	for _, p := range t.paths[1:] {
		paths = append(paths, "'"+p.path+"'")
	}
	fmt.Fprintf(&b, "\t\t\tcase %s\n\t\t\t\tset skip 1\n\t\t\tcase '*'\n\t\t\t\tif contains -- (string join ' ' $path $w) %s\n\t\t\t\t\tset -a path $w\n\t\t\t\tend\n\t\tend\n\tend\n",
		strings.Join(flags, " "), strings.Join(paths, " "))
	b.WriteString("\ttest \"$path\" = \"$argv[1]\"\nend\n")
	for _, p := range t.paths {
		for _, w := range p.words {
			if name, ok := strings.CutPrefix(w, "--"); ok {
				fmt.Fprintf(&b, "complete -c futago -n \"__futago_at '%s'\" -l %s%s\n", p.path, name, t.fishValue(w))
			} else {
				fmt.Fprintf(&b, "complete -c futago -n \"__futago_at '%s'\" -f -a %s\n", p.path, w)
			}
		}
	}
	return b.String()
}

// fishValue says that a flag takes a value, and of which words.
func (t *completions) fishValue(flag string) string {
	for _, v := range t.values {
		switch {
		case v.flag != flag:
		case v.words == "":
			return " -r"
		default:
			return " -x -a '" + v.words + "'"
		}
	}
	return ""
}
