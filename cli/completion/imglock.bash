# bash completion for imglock(1)

# The presets that are installed, by name.
_imglock_presets() {
    local program directory
    program=$(type -P "${COMP_WORDS[0]}") && program=$(realpath "$program" 2>/dev/null) || return
    for directory in "${program%/*}/../share/imglock" "${program%/*}/../config"; do
        [[ -d $directory ]] || continue
        find "$directory" -maxdepth 1 -name '*.conf' ! -name '*.tmpfiles.conf' -printf '%f\n' | sed 's/\.conf$//'
    done
}

# Where the wrapped command starts among the words: past imglock's own options, their arguments and --.
_imglock_command_start() {
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --) echo $((i + 1)) && return ;;
        -w | --wait | --mode | --config | --audit) ((i++)) ;;
        -*) ;;
        *) echo "$i" && return ;;
        esac
    done
    echo "$COMP_CWORD"
}

_imglock_hold() {
    local i
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            _command_offset $((i + 1))
            return
        fi
    done
    case $prev in
    -w | --wait) mapfile -t COMPREPLY < <(compgen -W 'forever' -- "$cur") && return ;;
    -E | --conflict-exit-code | --reason) return ;;
    --block)
        local before="" operation left=""
        [[ $cur == *,* ]] && before=${cur%,*},
        for operation in write truncate resize rename unlink; do
            [[ ,$before == *",$operation,"* ]] || left+=" $operation"
        done
        compopt -o nospace
        mapfile -t COMPREPLY < <(compgen -P "$before" -W "$left" -- "${cur##*,}")
        return
        ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '-s -x -n -w -E --shared --exclusive --nonblock --wait
            --conflict-exit-code --block --reason --no-lock --help --version --' -- "$cur")
    else
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}

_imglock_audit() {
    local i=2
    while ((i < COMP_CWORD)); do
        case ${COMP_WORDS[i]} in
        -o | --output) ((i += 2)) ;;
        -*) ((i++)) ;;
        *) break ;;
        esac
    done
    if ((i < COMP_CWORD)); then
        _command_offset "$i"
    elif [[ $prev == -o || $prev == --output ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '-o --output --help --version --' -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
    fi
}

# handoff, inactivate, activate; $1: the options of this one.
_imglock_migration() {
    case $prev in
    --from | --to)
        mapfile -t COMPREPLY < <(compgen -W "$(ps -eo pid=)" -- "$cur")
        return
        ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$1 --help --version" -- "$cur")
    else
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}

# The columns of imglock status, after those that are there already, as in "-o IMAGE,P".
_imglock_columns() {
    local before=
    [[ $cur == *,* ]] && before=${cur%,*},
    [[ $cur == +* && -z $before ]] && before=+
    "${COMP_WORDS[0]}" status --list-columns 2>/dev/null | awk -v before="$before" '{print before $1}'
}

_imglock_status() {
    case $prev in
    -o | --output)
        compopt -o nospace
        mapfile -t COMPREPLY < <(compgen -W "$(_imglock_columns)" -- "$cur")
        return
        ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '-J -r -n -o -H -u --json --raw --noheadings --output --output-all
            --list-columns --notruncate --watch --color --color=auto --color=always --color=never --help
            --version' -- "$cur")
    else
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}

_imglock() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} start
    COMPREPLY=()
    if ((COMP_CWORD > 1)); then
        case ${COMP_WORDS[1]} in
        hold)
            _imglock_hold
            return
            ;;
        path)
            if [[ $cur == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W '-0 --null --help --version' -- "$cur")
            else
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            fi
            return
            ;;
        doctor)
            _command_offset 2
            return
            ;;
        status)
            _imglock_status
            return
            ;;
        gc)
            mapfile -t COMPREPLY < <(compgen -W '-n -v --dry-run --verbose --help --version' -- "$cur")
            return
            ;;
        audit)
            _imglock_audit
            return
            ;;
        handoff)
            _imglock_migration '--from --to'
            return
            ;;
        inactivate)
            _imglock_migration '--from'
            return
            ;;
        activate)
            _imglock_migration '--to'
            return
            ;;
        report)
            if [[ $cur == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W '-o --json --svg --trace --output --help --version' -- "$cur")
            else
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            fi
            return
            ;;
        esac
    fi
    case $prev in
    --mode) mapfile -t COMPREPLY < <(compgen -W 'auto shared exclusive nolock force-share inactive' -- "$cur") && return ;;
    -w | --wait) mapfile -t COMPREPLY < <(compgen -W 'forever' -- "$cur") && return ;;
    --audit)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --config)
        if [[ $cur == */* ]]; then
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -W "$(_imglock_presets)" -- "$cur")
        fi
        return
        ;;
    esac
    start=$(_imglock_command_start)
    if ((start < COMP_CWORD)); then
        _command_offset "$start"
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '-s -x -n -w -v -h -V --shared --exclusive --mode --nonblock --wait --config
            --audit --verbose --help --version --' -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -W "$( ((COMP_CWORD == 1)) && echo 'hold path doctor status gc audit report handoff inactivate activate')" -c -- "$cur")
    fi
}

complete -F _imglock imglock
