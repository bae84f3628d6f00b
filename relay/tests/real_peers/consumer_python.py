# The Python consumer, PyPI `atproto`: python consumer_python.py BASE
#
# One JSON line per event, or per error with the key `error`. It reconnects by itself after a lost
# connection, from the cursor that it was last given; after an orderly close it returns, and is
# started again.

import json
import sys

from atproto import CAR, FirehoseSubscribeReposClient, models, parse_subscribe_repos_message

cursor = 0


def say(line):
    print(json.dumps(line), flush=True)


def run():
    client = FirehoseSubscribeReposClient(params={"cursor": cursor}, base_uri=sys.argv[1] + "/xrpc")

    def on_message(message):
        global cursor
        event = parse_subscribe_repos_message(message)
        line = {"kind": message.type, "seq": event.seq}
        line["did"] = getattr(event, "repo", None) or event.did
        if isinstance(event, models.ComAtprotoSyncSubscribeRepos.Commit):
            CAR.from_bytes(event.blocks)
            line["ops"] = len(event.ops)
        cursor = event.seq
        client.update_params({"cursor": cursor})
        say(line)

    client.start(on_message, lambda error: say({"error": repr(error)}))


while True:
    try:
        run()
    except Exception as error:
        say({"error": repr(error)})
        sys.exit(1)
