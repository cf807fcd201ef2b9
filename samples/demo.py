#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plays the sample conversations through a server of its own and checks order and replies: `./run demo`.

Starts bench/fake_model and the server on free ports with a temporary data directory, runs all conversations at the same
time (one thread each), then reads every journal back and checks that versions are dense and each message was answered once.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


def start(command, log):
    """Starts a program that prints one JSON line when it listens; returns (process, that line)."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise SystemExit(f"{command[0]} did not start (exit {process.returncode}); its log: {log.name}")
    return process, json.loads(line)


def stop(process):
    process.terminate()
    try:
        return process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def call(base, method, path, body=None):
    request = urllib.request.Request(base + path, method=method)
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, data, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def play(base, conversation, failures, replies):
    where = conversation["id"]
    for number, turn in enumerate(conversation["turns"], 1):
        status, answer = call(base, "POST", f"/v1/conversations/{where}/messages",
                              {"text": turn["say"], "message_id": f"m-{number}", "customer_id": f"customer-{where}"})
        wanted = turn.get("status", "completed")
        text = (answer.get("reply") or {}).get("text", "")
        replies.append(where)
        if status not in (200, 202) or answer.get("status") != wanted:
            failures.append(f"{where} turn {number}: HTTP {status}, status {answer.get('status')!r}, wanted {wanted!r}: {answer}")
        elif "expect" in turn and not any(piece in text for piece in turn["expect"].split("|")):
            failures.append(f"{where} turn {number}: reply {text!r} lacks {turn['expect']!r}")


def check_journal(base, conversation, failures):
    where = conversation["id"]
    events, after = [], 0
    while after is not None:
        status, page = call(base, "GET", f"/v1/conversations/{where}/events?after={after}&limit=1000")
        if status != 200:
            failures.append(f"{where}: events answered HTTP {status}")
            return 0
        events += page["events"]
        after = page["next"]
    versions = [event["version"] for event in events]
    if versions != list(range(1, len(versions) + 1)):
        failures.append(f"{where}: versions are not dense: {versions}")
    said = [event["payload"]["text"] for event in events if event["event"] == "inbox.message.received"]
    if said != [turn["say"] for turn in conversation["turns"]]:
        failures.append(f"{where}: messages out of order or missing: {said}")
    return len(events)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=os.path.join(HERE, "..", "build", "release", "ciranda"))
    parser.add_argument("--verbose", action="store_true", help="print every conversation")
    options = parser.parse_args()
    binary = os.path.abspath(options.binary)
    fake_model = os.path.join(os.path.dirname(binary), "bench", "fake_model")
    with open(os.path.join(HERE, "conversations.jsonl"), encoding="utf-8") as file:
        conversations = [json.loads(line) for line in file if line.strip()]

    with tempfile.TemporaryDirectory(prefix="ciranda-demo-") as folder, open(os.path.join(folder, "log"), "w+") as log:
        model, line = start([fake_model, "--listen", "127.0.0.1:0", "--first-token-ms", "20", "--tokens", "8", "--stream-ms", "80"], log)
        config = os.path.join(folder, "demo.yaml")
        with open(os.path.join(HERE, "demo.yaml"), encoding="utf-8") as source, open(config, "w", encoding="utf-8") as target:
            target.write(source.read().replace("127.0.0.1:9999", line["http"]))
        server = None
        try:
            server, line = start([binary, "serve", "--config", config, "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0",
                                  "--data", os.path.join(folder, "data")], log)
            base = "http://" + line["http"]
            print(f"server at {base}, {len(conversations)} conversations at the same time")
            failures, replies, began = [], [], time.monotonic()
            threads = [threading.Thread(target=play, args=(base, item, failures, replies)) for item in conversations]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.monotonic() - began
            events = sum(check_journal(base, item, failures) for item in conversations)
            if options.verbose:
                for item in conversations:
                    _, page = call(base, "GET", f"/v1/conversations/{item['id']}/messages?limit=100")
                    print(f"\n== {item['id']} ({item['language']}, {item['field']})")
                    for message in page["messages"]:
                        print(f"  {message['from']:>8}: {message['text']}")
        finally:
            exits = [stop(process) for process in (server, model) if process]
        if exits and exits[0] != 0:
            failures.append(f"the server left with exit code {exits[0]}")
        for failure in failures:
            print("FAILED", failure)
        print(f"{len(conversations)} conversations, {len(replies)} messages, {events} events, {seconds:.2f} s, "
              f"{len(failures)} failures")
        if failures:
            log.seek(0)
            sys.stdout.write("".join(log.readlines()[-20:]))
        return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
