"""What schemathesis needs to know of JSON Lines."""

import json

import schemathesis

LINES = "application/x-ndjson"


@schemathesis.serializer(LINES)
def lines(_, value):
    if isinstance(value, list):
        return "".join(json.dumps(item) + "\n" for item in value).encode()
    return json.dumps(value).encode()


@schemathesis.deserializer(LINES)
def answers(_, response):
    text = response.content.decode().removesuffix("\n")
    if not text:  # a journal may have nothing behind a sequence
        return []
    return [json.loads(line) for line in text.split("\n")]
