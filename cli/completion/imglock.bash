# bash completion for imglock(1).  imglock itself knows the words; this shows them.

_imglock() {
    local cur=${COMP_WORDS[COMP_CWORD]} kind start i
    local -a answer
    COMPREPLY=()
    mapfile -t answer < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    read -r kind start <<<"${answer[0]-}"
    case $kind in
    command)
        _command_offset "$start"
        return
        ;;
    files)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    programs) mapfile -t COMPREPLY < <(compgen -c -- "$cur") ;;
    list) compopt -o nospace ;;
    esac
    for ((i = 1; i < ${#answer[@]}; i++)); do COMPREPLY+=("${answer[i]%%$'\t'*}"); done
}

complete -F _imglock imglock
