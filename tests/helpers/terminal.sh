#!/bin/bash
# terminal.sh NAME COMMAND...: starts the command in a terminal of 80 by 20 of a tmux of its own, whose socket is ./NAME.
# What stands there: tmux -S NAME capture-pane -p.  The end of the command leaves its terminal open, for a look.
name=$1
shift
exec tmux -S "$name" -f /dev/null new-session -d -x 80 -y 20 -- bash --norc -c 'stty sane; PS1=; "$@"; echo "ended $?"; sleep 1000' bash "$@"
