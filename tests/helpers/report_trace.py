#!/usr/bin/env python3
"""report_trace.py FILE: is this what viewers of Chrome trace events take?  Prints the events, one a line."""
import collections
import json
import sys

trace = json.load(open(sys.argv[1], encoding="utf-8"))
events = trace["traceEvents"]
names = {}
tracks = collections.defaultdict(list)
for event in events:
    assert event["ph"] in "MXi", event
    assert isinstance(event["pid"], int) and isinstance(event["tid"], int), event
    if event["ph"] == "M":
        if event["name"].endswith("_name"):
            assert isinstance(event["args"]["name"], str), event
            names[event["name"], event["pid"], event["tid"]] = event["args"]["name"]
        continue
    assert event["ts"] >= 0, event
    assert ("thread_name", event["pid"], event["tid"]) in names, event
    assert ("process_name", event["pid"], 0) in names, event
    if event["ph"] == "X":
        assert event["dur"] >= 0, event
        tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    else:
        assert event["s"] in "gpt", event
    print(names["process_name", event["pid"], 0], "|", names["thread_name", event["pid"], event["tid"]], "|", event["name"],
          event["ts"], event.get("dur", ""))
assert len({key[1:] for key in names if key[0] == "thread_name"}) == len({key[2] for key in names if key[0] == "thread_name"})
for spans in tracks.values():
    for i, (begin, end) in enumerate(spans):
        for other_begin, other_end in spans[i + 1:]:
            apart = end <= other_begin or other_end <= begin
            nested = (begin <= other_begin and other_end <= end) or (other_begin <= begin and end <= other_end)
            assert apart or nested, "one track: %s" % [begin, end, other_begin, other_end]
