"""Two transactional copiers of other people's clients, and a node that is killed while they have a transaction open.

    python eos_kills.py HOST:PORT KILLS DIRECTORY EXACTLOG CLASS_PATH BROKER...

A producer fills a topic, two copiers (Java and librdkafka, of one group) copy it in transactions, and a reader of
committed records looks on. BROKER is killed by SIGKILL, and started again, until KILLS kills have met a transaction: a
copier had records in an open one that were acknowledged, or waited for the answer to its commit. It is stopped first,
so that nobody goes on while it is looked up; a kill that met nothing is made all the same and doesn't count.

EXACTLOG is the program, for what its directory and the node say; `-` with another broker.
"""

import atexit
import collections
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import confluent_kafka as confluent
from confluent_kafka import admin

NODE, KILLS, DIRECTORY, EXACTLOG, CLASS_PATH = sys.argv[1:6]
KILLS, BROKER = int(KILLS), sys.argv[6:]
HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE, SINK = "numbers", "copies"
PARTITIONS = {SOURCE: 4, SINK: 3}
PATIENCE_S = 180
# Records that wait to be copied, at most.
AHEAD = 3000
FAST = {"bootstrap.servers": NODE, "log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}


def until(what, holds, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"FAILED  {what}: not within {patience_s} s")
        time.sleep(0.01)


# What runs, for whatever way this ends.
running = []


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


@atexit.register
def leave_nothing():
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


class Broker:
    def __init__(self):
        self.start()

    def start(self):
        with open(f"{DIRECTORY}/broker.out", "a") as out, open(f"{DIRECTORY}/broker.err", "a") as err:
            self.process = subprocess.Popen(BROKER, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        running.append(self.process)
        until(f"the broker at {NODE}", self.answers, 60)

    def answers(self):
        if self.process.poll() is not None:
            sys.exit(f"FAILED  the broker has ended: {open(f'{DIRECTORY}/broker.err').read()[-500:]}")
        try:
            return bool(admin.AdminClient(FAST).list_topics(timeout=1))
        except confluent.KafkaException:
            return False

    def stop(self):
        """No thread of it goes on, and what was on its way to others has come."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(0.03)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.terminate()
        self.process.wait()


class Copier:
    """Its process. One that gets no further for long is killed, too, and started again."""

    STUCK_S = 20

    def __init__(self, name, command):
        self.name, self.command, self.stuck = name, [*command, DIRECTORY, name, SOURCE, SINK], 0
        self.start()

    def start(self):
        with open(f"{DIRECTORY}/{self.name}.out", "a") as out, open(f"{DIRECTORY}/{self.name}.err", "a") as err:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        running.append(self.process)
        self.last, self.since = None, time.monotonic()

    def look(self):
        """Whether it gets on."""
        state = self.state()
        if state != self.last or state[0] == "idle":
            self.last, self.since = state, time.monotonic()
        elif time.monotonic() > self.since + self.STUCK_S:
            print(f"progress {self.name} is stuck in {state}, and is started again", flush=True)
            self.stuck += 1
            self.process.kill()
            self.process.wait()
            self.start()

    def state(self):
        """What it is about, and in which transaction."""
        if self.process.poll() is not None:
            sys.exit(f"FAILED  {self.name} has ended: {open(f'{DIRECTORY}/{self.name}.err').read()[-1000:]}")
        try:
            with open(f"{DIRECTORY}/{self.name}.state") as state:
                what, number = state.read().split()
                return what, int(number)
        except (FileNotFoundError, ValueError):
            return "idle", 0

    def lines(self, beginning):
        with open(f"{DIRECTORY}/{self.name}.out") as lines:
            return [line.split(maxsplit=2) for line in lines if line.startswith(beginning + " ")]


class Feeder(threading.Thread):
    """Sends 0, 1, 2, .. with a producer id, each to the partition that is its turn, as far as `room` lets it."""

    def __init__(self, room):
        super().__init__(daemon=True)
        self.room, self.sent, self.stopped, self.refused = room, 0, False, []
        self.producer = confluent.Producer(FAST | {"enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 1})

    def run(self):
        while not self.stopped:
            for _ in range(max(0, min(self.room() - self.sent, 20))):
                self.producer.produce(SOURCE, str(self.sent), partition=self.sent % PARTITIONS[SOURCE],
                                      callback=self.told)
                self.sent += 1
            self.producer.poll(0.005)

    def told(self, error, _message):
        if error is not None:
            self.refused.append(error)

    def end(self):
        self.stopped = True
        self.join()
        self.producer.flush(PATIENCE_S)
        check(f"the producer has sent all: {len(self.producer)} are left, {self.refused[:3]}",
              len(self.producer) == 0 and not self.refused)


class Reader(threading.Thread):
    """Whatever readers of committed records are shown of a topic, by partition and offset, as it comes."""

    def __init__(self, topic):
        super().__init__(daemon=True)
        self.topic, self.stopped, self.found, self.doubts = topic, False, {}, []

    def run(self):
        reader = confluent.Consumer(FAST | {"group.id": "nobody", "isolation.level": "read_committed",
                                            "enable.auto.commit": False, "auto.offset.reset": "error"})
        reader.assign([confluent.TopicPartition(self.topic, at, 0) for at in range(PARTITIONS[self.topic])])
        ends = collections.defaultdict(int)
        while not self.stopped:
            for message in reader.consume(500, 0.2):
                if message.error() is not None:
                    if not message.error().retriable():
                        self.doubts.append(str(message.error()))
                    continue
                partition, offset = message.partition(), message.offset()
                if offset < ends[partition]:
                    self.doubts.append(f"{partition}: {offset} behind {ends[partition]}")
                ends[partition] = offset + 1
                self.found[partition, offset] = message.value().decode()
        reader.close()


def read_all(topic, count):
    """A topic from its beginning to its end, once more."""
    reader = Reader(topic)
    reader.start()
    until(f"{count} records of {topic}", lambda: len(reader.found) >= count, 60)
    time.sleep(1)
    reader.stopped = True
    reader.join()
    check(f"{topic}: {reader.doubts[:3]}", not reader.doubts)
    return reader.found


def check(what, holds):
    if not holds:
        sys.exit(f"FAILED  {what}")


def exactlog(*arguments, statuses=(0,)):
    done = subprocess.run([EXACTLOG, *arguments, "--format", "json"], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)
    check(f"exactlog {' '.join(arguments)}: {done.returncode}, {done.stdout[-500:]} {done.stderr[-500:]}",
          done.returncode in statuses)
    return json.loads(done.stdout)


def open_in_log():
    """How many transactions the log of the killed node has open, by its directory; none: it isn't ours."""
    if EXACTLOG == "-":
        return None
    listed = exactlog("txn", "list", "--data", f"{DIRECTORY}/data")["transactions"]
    return sum(found["state"] == "Ongoing" for found in listed)


def kill_and_start(broker, copiers, counts, wanted, chance):
    before = {copier: copier.state()[1] for copier in copiers}

    def goes_on():
        for copier in copiers:
            copier.look()
        return all(copier.state()[1] > before[copier] + 1 for copier in copiers)

    until("transactions between two kills", goes_on)
    time.sleep(chance.uniform(0, 0.15))
    end = time.monotonic() + 10
    while time.monotonic() < end and all(copier.state()[0] != wanted for copier in copiers):
        pass
    broker.stop()
    states = [copier.state()[0] for copier in copiers]
    broker.kill()
    for state in ("open", "commit"):
        counts[state] += state in states
    counts["kills"] += 1
    counts["counted"] += bool({"open", "commit"} & set(states))
    counts["both copiers"] += all(state in ("open", "commit") for state in states)
    counts["open in the log"] += bool(open_in_log())
    broker.start()


def judge(numbers, found, copiers):
    """That each number is there once, and each transaction wholly, in its order and in one piece of its copier's."""
    copies, transactions, last = collections.Counter(), collections.defaultdict(list), {}
    for (partition, _), value in sorted(found.items()):
        number, name, *rest = value.split()
        transaction, nth, of, total = map(int, rest)
        copies[int(number)] += 1
        check(f"{number} is in partition {partition}", int(number) % PARTITIONS[SINK] == partition)
        before = last.get((name, partition))
        expected = before[1] + 1 if before and before[0] == transaction else 0
        check(f"{name} {transaction} in {partition}: {nth} behind {before}", nth == expected)
        check(f"{name} {before} in {partition}: {of} is torn", before is None or nth or before[1] + 1 == before[2])
        check(f"{name} {transaction} behind {before}", before is None or transaction >= before[0])
        last[name, partition] = (transaction, nth, of)
        transactions[name, transaction].append(total)
    check("the last ones are whole", all(nth + 1 == of for _, nth, of in last.values()))
    torn = [key for key, totals in transactions.items() if {len(totals)} != set(totals)]
    lost = [number for number in range(numbers) if copies[number] == 0]
    doubled = [number for number, count in copies.items() if count > 1]
    check(f"torn {torn[:5]}, lost {lost[:5]}, doubled {doubled[:5]}", not (torn or lost or doubled))
    check("nothing else is there", len(copies) == numbers)
    for copier in copiers:
        committed = {(copier.name, int(line[1])) for line in copier.lines("committed")}
        aborted = {(copier.name, int(line[1])) for line in copier.lines("aborted")}
        check(f"{copier.name}: {len(committed - transactions.keys())} acknowledged commits are missing",
              committed <= transactions.keys())
        check(f"{copier.name}: aborted transactions are shown", not aborted & transactions.keys())
    return len(transactions)


def ends():
    """The last stable offset of each partition, and its end."""
    client = admin.AdminClient(FAST)
    wanted = {confluent.TopicPartition(topic, partition): admin.OffsetSpec.latest()
              for topic, count in PARTITIONS.items() for partition in range(count)}
    told = []
    for level in (confluent.IsolationLevel.READ_COMMITTED, confluent.IsolationLevel.READ_UNCOMMITTED):
        futures = client.list_offsets(wanted, isolation_level=level)
        told.append({(at.topic, at.partition): future.result().offset for at, future in futures.items()})
    return told


def settled(broker):
    """Nothing hangs, and readers of committed records see to the end."""
    until("the last stable offsets are the ends", lambda: len({str(sorted(it.items())) for it in ends()}) == 1, 30)
    if EXACTLOG == "-":
        return
    hanging = exactlog("txn", "find-hanging", "-b", NODE)["hanging"]
    listed = exactlog("txn", "list", "-b", NODE)["transactions"]
    check(f"hanging: {hanging}, {listed}", not hanging and all(it["state"] != "Ongoing" for it in listed))
    for place in (("-b", NODE), ("--data", f"{DIRECTORY}/data")):
        lag = exactlog("group", "lag", "copiers", *place)["total_lag"]
        check(f"the group's lag is {lag} ({place[0]})", lag == 0)
    broker.end()
    exactlog("log", "verify", "--data", f"{DIRECTORY}/data")


def make_topics():
    client = admin.AdminClient(FAST)
    for future in client.create_topics([admin.NewTopic(*it, 1) for it in PARTITIONS.items()]).values():
        future.result()


def java():
    return ["java", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp",
            CLASS_PATH, "compat.Main", NODE, "copy"]


def said(copiers):
    counts = {word: sum(len(it.lines(word)) for it in copiers) for word in ("committed", "aborted", "failed", "fatal")}
    return f"the copiers were told {counts}, and were stuck {sum(copier.stuck for copier in copiers)} times"


def finish(broker, copiers, feeder, reader):
    """Lets everything be copied, and looks at what there is; how many transactions."""
    feeder.end()

    def is_copied():
        for copier in copiers:
            copier.look()
        return len(reader.found) >= feeder.sent

    until(f"each of {feeder.sent} records is copied", is_copied)
    open(f"{DIRECTORY}/stop", "w").close()
    for copier in copiers:
        check(f"{copier.name} ends", copier.process.wait(60) == 0)
    numbers = read_all(SOURCE, feeder.sent)
    check("each number is there once", sorted(map(int, numbers.values())) == list(range(feeder.sent)))
    found = read_all(SINK, feeder.sent)
    reader.stopped = True
    reader.join()
    check(f"who looked on saw what is there: {reader.doubts[:3]}", found == reader.found and not reader.doubts)
    transactions = judge(feeder.sent, found, copiers)
    settled(broker)
    return transactions


def main():
    broker, counts = Broker(), collections.Counter()
    make_topics()
    librdkafka = [sys.executable, f"{HERE}/copier.py", NODE]
    copiers = [Copier("java", java()), Copier("librdkafka", librdkafka)]
    reader = Reader(SINK)
    feeder = Feeder(lambda: len(reader.found) + AHEAD)
    reader.start()
    feeder.start()
    chance, begin = random.Random(2026), time.monotonic()
    while counts["counted"] < KILLS:
        kill_and_start(broker, copiers, counts, ("commit", "open")[counts["kills"] % 2], chance)
        if counts["kills"] % 10 == 0:
            print(f"progress {dict(counts)}, {feeder.sent} records, {time.monotonic() - begin:.0f} s", flush=True)
    transactions = finish(broker, copiers, feeder, reader)
    print(f"ok  eos: {counts['counted']} kills that met a transaction ({counts['open']} an open one, {counts['commit']}"
          f" a commit on its way, {counts['both copiers']} one of each copier), of {counts['kills']};"
          f" by its log {counts['open in the log']} left one open")
    print(f"ok  eos: {feeder.sent} records copied once, in {transactions} transactions, none torn, none hanging;"
          f" {said(copiers)}")


if __name__ == "__main__":
    main()
