#!/usr/bin/env python3
"""qmp.py SOCKET COMMAND [ARGUMENTS]: gives a QEMU one command, with arguments in JSON, and prints the answer in JSON.
qmp.py SOCKET until STATE...: waits until its migration, or the machine, is in one of these states, and prints it."""
import json
import socket
import sys
import time


def connect(path):
    for _ in range(6000):
        try:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            break
        except OSError:
            time.sleep(0.02)
    stream = connection.makefile("rw")
    stream.readline()
    return stream


def ask(stream, command, arguments=None):
    stream.write(json.dumps({"execute": command, "arguments": arguments or {}}) + "\n")
    stream.flush()
    while True:
        line = stream.readline()
        if not line:
            sys.exit("no answer")
        answer = json.loads(line)
        if "error" in answer:
            sys.exit(answer["error"]["desc"])
        if "return" in answer:
            return answer["return"]


def wait(stream, states):
    for _ in range(12000):
        found = [ask(stream, "query-migrate").get("status"), ask(stream, "query-status")["status"]]
        for state in found:
            if state in states:
                return state
        time.sleep(0.01)
    sys.exit(f"in {found} still")


qmp = connect(sys.argv[1])
ask(qmp, "qmp_capabilities")
if sys.argv[2] == "until":
    print(wait(qmp, sys.argv[3:]))
else:
    print(json.dumps(ask(qmp, sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else None)))
