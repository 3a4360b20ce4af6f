"""Two transactional copiers of the Java client, and a network that holds back some of their requests.

    python eos_delays.py HOST:PORT LATE DIRECTORY EXACTLOG CLASS_PATH UPSTREAM BROKER...

As eos_kills.py, but nobody is killed: HOST:PORT, which BROKER has to advertise, is a proxy in front of UPSTREAM, where
it listens. Now and then the proxy holds a Produce, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit or EndTxn of a
copier, and cuts its connection: it asks again on another one, and goes on. Later the request is sent after all. It
counts as late if its copier has begun another transaction meanwhile. Ends when LATE of them were.

The class path decides what is proved: clients from Kafka 4.0 on speak the second protocol of transactions, by which no
late request does anything. For those before, `REPORT=1` only says what became of the records.
"""

import collections
import os
import random
import socket
import struct
import sys
import threading
import time

# What eos_kills reads of the arguments: all but UPSTREAM.
UPSTREAM = sys.argv.pop(6)
import eos_kills as eos  # noqa: E402

HELD = {0: "Produce", 24: "AddPartitionsToTxn", 25: "AddOffsetsToTxn", 26: "EndTxn", 28: "TxnOffsetCommit"}
# One of so many requests is held.
OF = 40


def read_exactly(link, count):
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise OSError("it has ended")
        data += part
    return data


def frame_of(link):
    head = read_exactly(link, 4)
    return head + read_exactly(link, struct.unpack(">i", head)[0])


def sender_of(frame):
    """The API of a request, and its client."""
    key, length = struct.unpack(">h", frame[4:6])[0], struct.unpack(">h", frame[12:14])[0]
    return key, frame[14:14 + max(length, 0)].decode()


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


class Proxy:
    def __init__(self, number_of):
        self.number_of, self.counts, self.holding = number_of, collections.Counter(), True
        self.chance, self.lock = random.Random(2026), threading.Lock()
        self.listener = socket.create_server(address(eos.NODE))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            node = socket.create_connection(address(UPSTREAM))
        except OSError:
            client.close()
            return
        for link in (client, node):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self.answers, args=(node, client), daemon=True).start()
        try:
            while True:
                frame = frame_of(client)
                key, name = sender_of(frame)
                if self.is_held(key, name):
                    client.shutdown(socket.SHUT_RDWR)
                    self.send_later(node, frame, key, name)
                    break
                node.sendall(frame)
        except OSError:
            pass
        for link in (client, node):
            link.close()

    def answers(self, node, client):
        """Those of a connection that is cut are read, and nobody gets them."""
        try:
            while data := node.recv(1 << 16):
                try:
                    client.sendall(data)
                except OSError:
                    pass
        except OSError:
            pass
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def is_held(self, key, name):
        with self.lock:
            return self.holding and key in HELD and name.startswith("copier-") and self.chance.randrange(OF) == 0

    def send_later(self, node, frame, key, name):
        before = self.number_of(name)
        time.sleep(self.chance.uniform(0.02, 0.6))
        node.sendall(frame)
        with self.lock:
            self.counts["held"] += 1
            if self.number_of(name) > before:
                self.counts["late"] += 1
                self.counts[HELD[key]] += 1
        # Its answer comes, and is nobody's.
        time.sleep(1)


def report(copiers, feeder, reader, counts):
    """What became of the records, whatever it is: once the copiers find no more of them."""
    feeder.end()
    states, since = None, time.monotonic()
    while time.monotonic() < since + 10:
        if states != (states := [copier.state() for copier in copiers]):
            since = time.monotonic()
        time.sleep(0.1)
    copies = collections.Counter(int(value.split()[0]) for value in list(reader.found.values()))
    lost = sum(copies[number] == 0 for number in range(feeder.sent))
    doubled = sum(count > 1 for count in copies.values())
    print(f"ok  eos, first protocol: {counts['late']} late requests, {counts}: of {feeder.sent} records {lost} are lost"
          f" and {doubled} are there twice; {eos.said(copiers)}")


def main():
    copiers = []

    def number_of(name):
        return next((copier.state()[1] for copier in copiers if f"copier-{copier.name}" == name), 0)

    proxy = Proxy(number_of)
    broker = eos.Broker()
    eos.make_topics()
    copiers += [eos.Copier(name, eos.java()) for name in ("java-1", "java-2")]
    reader = eos.Reader(eos.SINK)
    feeder = eos.Feeder(lambda: len(reader.found) + eos.AHEAD)
    reader.start()
    feeder.start()
    begin, told = time.monotonic(), 0
    while proxy.counts["late"] < eos.KILLS:
        eos.check(f"{proxy.counts['late']} late requests within 600 s", time.monotonic() < begin + 600)
        if proxy.counts["late"] >= told + 25:
            told = proxy.counts["late"]
            print(f"progress {dict(proxy.counts)}, {feeder.sent} records", flush=True)
        for copier in copiers:
            copier.look()
        time.sleep(0.05)
    proxy.holding = False
    time.sleep(1)
    counts = dict(sorted(proxy.counts.items()))
    if os.environ.get("REPORT"):
        report(copiers, feeder, reader, counts)
        return
    transactions = eos.finish(broker, copiers, feeder, reader)
    print(f"ok  eos: {counts['late']} requests that came when their sender had begun the next transaction: {counts}")
    print(f"ok  eos: {feeder.sent} records copied once, in {transactions} transactions, none torn, none hanging;"
          f" {eos.said(copiers)}")


main()
