# fish completion for imglock(1).  imglock itself knows the words; this shows them.

function __imglock_complete
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    set -l answer (command $words[1] __complete $words[2..-1] "$cur" 2>/dev/null)
    set -l kind (string split ' ' -- $answer[1])
    switch $kind[1]
        case files
            __fish_complete_path "$cur"
        case programs
            complete -C "$cur"
        case command
            # fish counts from 1, imglock from 0.
            set -l start (math $kind[2] + 1)
            complete -C (string join ' ' -- (string escape -- $words[$start..-1]) "$cur")
    end
    string join \n -- $answer[2..-1]
end

complete -c imglock -f -a '(__imglock_complete)'
