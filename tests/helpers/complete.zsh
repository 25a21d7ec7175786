#!/usr/bin/env zsh
# complete.zsh DIRECTORY LINE: what zsh offers behind the line, with the completions of the directory, one word a line.
# A real interactive zsh in a pseudo terminal, since completion works nowhere else.  It prints what it adds to its list,
# between two NULs, and exits.
zmodload zsh/zpty
setup=$(mktemp)
cat >$setup <<'END'
PROMPT=
stty -echo -onlcr
autoload -U compinit
compinit -u -D
bindkey '^I' complete-word
mark() { print -rn -- $'\0' }
compprefuncs=(mark)
comppostfuncs=(mark exit)
compadd() {
    # What asks only, and adds nothing.
    [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]] && { builtin compadd "$@"; return }
    local -a added
    builtin compadd -A added "$@"
    (($#added)) && print -rl -- $added
}
END
zpty shell zsh -f -i
zpty -w shell "fpath=(${(q)1} \$fpath); source $setup; print REA''DY"
while zpty -r shell line && [[ $line != *READY* ]]; do :; done
zpty -w -n shell "$2"$'\t'
all=
while zpty -r shell line; do all+=$line; done
print -rn -- "${${all#*$'\0'}%%$'\0'*}"
rm -f $setup
