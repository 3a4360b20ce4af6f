"""What groups that have read everything are told to be behind, where markers of transactions are the last they read.

    python lags.py HOST:PORT EXACTLOG DIRECTORY JAVA_CLASS_PATH TOOLS_CLASS_PATH

Each client reads a topic of one partition to its end (read_committed), and commits its position, or the offset behind
the last record; a transaction commits the latter for its group, too. Then lag is asked for as Kafka's users do: with
ConsumerGroupCommand, as end_offsets minus committed in kafka-python, and with `exactlog group lag`. EXACTLOG is the
program, DIRECTORY the log of the node; `-` with another broker. Prints a table, and checks it.
"""

import json
import os
import subprocess
import sys
import time
import uuid

import confluent_kafka as confluent
import kafka
from confluent_kafka import admin

NODE, EXACTLOG, DIRECTORY, JAVA_PATH, TOOLS_PATH = sys.argv[1:]
BROKER = os.environ.get("BROKER", "exactlog")
RECORDS = 10
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"]
QUIET = [f"-Dlog4j2.configurationFile={os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/kafka/log4j2.yaml"]
FAST = {"bootstrap.servers": NODE, "log_level": 0}


def name(what):
    return f"{what}-{uuid.uuid4().hex[:8]}"


def run(*command, check=True):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if check and done.returncode != 0:
        sys.exit(f"FAILED  {' '.join(command[-6:])}: {done.returncode}\n{done.stdout[-800:]}{done.stderr[-800:]}")
    return done.stdout


def filled():
    """A topic with records of two transactions, of which the second is aborted, each with its marker behind."""
    topic = name("lags")
    client = admin.AdminClient(FAST)
    made = client.create_topics([admin.NewTopic(topic, 1, 1)])
    made[topic].result()
    producer = confluent.Producer(FAST | {"transactional.id": topic, "linger.ms": 0})
    producer.init_transactions(60)
    for ends in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        for number in range(RECORDS):
            producer.produce(topic, str(number), partition=0)
        producer.flush(30)
        ends(30)
    return topic


def by_confluent(topic, group, what):
    reader = confluent.Consumer(FAST | {"group.id": group, "isolation.level": "read_committed",
                                        "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    at = confluent.TopicPartition(topic, 0, 0)
    reader.assign([at])
    last, end = 0, time.monotonic() + 3
    while time.monotonic() < end:
        message = reader.poll(0.1)
        if message is not None and message.error() is None:
            last = message.offset()
    offset = reader.position([at])[0].offset if what == "position" else last + 1
    reader.commit(offsets=[confluent.TopicPartition(topic, 0, offset)], asynchronous=False)
    reader.close()


def by_kafka_python(topic, group, what):
    reader = kafka.KafkaConsumer(bootstrap_servers=NODE, group_id=group, isolation_level="read_committed",
                                 enable_auto_commit=False, auto_offset_reset="earliest")
    at = kafka.TopicPartition(topic, 0)
    reader.assign([at])
    last, end = 0, time.monotonic() + 3
    while time.monotonic() < end:
        for messages in reader.poll(timeout_ms=100).values():
            last = messages[-1].offset
    offset = reader.position(at) if what == "position" else last + 1
    reader.commit({at: kafka.structs.OffsetAndMetadata(offset, "", -1)})
    reader.close()


def by_java(topic, group, what):
    run(*JAVA, "-cp", JAVA_PATH, "compat.Main", NODE, "lag", topic, group, what)


def by_transaction(topic, group, _what):
    """As Kafka's own copier: the offset behind the last record, by a transaction in another topic."""
    reader = confluent.Consumer(FAST | {"group.id": group, "isolation.level": "read_committed",
                                        "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    other = name("lags")
    client = admin.AdminClient(FAST)
    client.create_topics([admin.NewTopic(other, 1, 1)])[other].result()
    producer = confluent.Producer(FAST | {"transactional.id": group})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(other, "copy")
    producer.send_offsets_to_transaction([confluent.TopicPartition(topic, 0, RECORDS)],
                                         reader.consumer_group_metadata(), 60)
    producer.commit_transaction(60)
    reader.close()


def of_python(topic, group):
    """Committed, and how far that is from the ends: of committed records, and of all."""
    told = []
    for level in ("read_committed", "read_uncommitted"):
        reader = kafka.KafkaConsumer(bootstrap_servers=NODE, group_id=group, isolation_level=level)
        at = kafka.TopicPartition(topic, 0)
        committed, end = reader.committed(at), reader.end_offsets([at])[at]
        told.append(end - committed)
        reader.close(autocommit=False)
    return committed, *told


def of_tool(topic, group):
    """The column LAG of ConsumerGroupCommand."""
    said = run(*JAVA, *QUIET, "-cp", TOOLS_PATH, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
               "--bootstrap-server", NODE, "--describe", "--group", group)
    rows = [line.split() for line in said.splitlines() if line.strip()]
    head = next(row for row in rows if "LAG" in row)
    row = next(row for row in rows if topic in row)
    return int(row[head.index("LAG")])


def of_program(group):
    if EXACTLOG == "-":
        return []
    lags = []
    for place in (["-b", NODE], ["--data", DIRECTORY]):
        for verb in ("lag", "describe"):
            said = json.loads(run(EXACTLOG, "group", verb, group, *place, "--format", "json"))
            lags.append(said["total_lag"])
    return lags


def main():
    topic = filled()
    end = 2 * RECORDS + 2
    clients = {"confluent-kafka": by_confluent, "kafka-python": by_kafka_python, "Java": by_java}
    failed = []
    print(f"{topic}: {RECORDS} records, a marker, {RECORDS} records that are aborted, a marker; it ends at {end}")
    print("committed by | what | committed | kafka-python, committed and all | ConsumerGroupCommand | exactlog group")
    cases = [(who, what) for who in clients for what in ("position", "record")]
    for who, what in [*cases, ("a transaction", "record")]:
        group = name("group")
        clients.get(who, by_transaction)(topic, group, what)
        committed, shown, whole = of_python(topic, group)
        tool, own = of_tool(topic, group), of_program(group)
        print(f"{who} | {what} | {committed} | {shown}, {whole} | {tool} | {own}")
        expected = end if what == "position" else RECORDS
        if (committed, shown, whole, tool) != (expected, end - expected, end - expected, end - expected):
            failed.append((who, what))
        if any(own):
            failed.append((who, what, own))
    if failed:
        sys.exit(f"FAILED  lags: {failed}")
    print(f"ok  lags: who is at the end is 0 behind, by all of them; {len(cases) + 1} groups")


main()
