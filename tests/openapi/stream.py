"""Reads the first event of GET /api/events and holds it against its schema in /openapi.json."""

import json
import sys
import urllib.request

url, token = sys.argv[1:]
document = json.load(urllib.request.urlopen(f"{url}/openapi.json"))
request = urllib.request.Request(f"{url}/api/events", headers={"Authorization": f"Bearer {token}"})
with urllib.request.urlopen(request, timeout=10) as stream:
    assert stream.headers["content-type"].startswith("text/event-stream"), stream.headers
    lines = [stream.readline().decode().rstrip("\n") for _ in range(2)]
named = dict(line.split(": ", 1) for line in lines)
assert named["event"] == "status", lines
answer = document["paths"]["/api/events"]["get"]["responses"]["200"]
name = answer["x-event"]["$ref"].rsplit("/", 1)[1]
fields = set(document["components"]["schemas"][name]["properties"])
told = set(json.loads(named["data"]))
assert told == fields, (told - fields, fields - told)
