"""Each Python client against a node: idempotent and transactional producing, groups, and each other's codecs.

    python all_clients.py HOST:PORT
"""

import asyncio
import sys
import time
import uuid

import confluent_kafka as confluent
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import admin
from kafka import KafkaConsumer, KafkaProducer

NODE = sys.argv[1]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PATIENCE_S = 60


def name(what):
    return f"{what}-{uuid.uuid4().hex[:8]}"


def topic(partitions=1, **settings):
    """A topic of its own, made by the admin client and described back."""
    client, made = admin.AdminClient({"bootstrap.servers": NODE}), name("topic")
    settings = {key.replace("_", "."): value for key, value in settings.items()}
    for future in client.create_topics([admin.NewTopic(made, partitions, 1, config=settings)]).values():
        future.result()
    resource = admin.ConfigResource(admin.ResourceType.TOPIC, made)
    for future in client.describe_configs([resource]).values():
        described = future.result()
    for key, value in settings.items():
        assert described[key].value == value, (key, described[key].value, value)
    return made


def consumer(group, **settings):
    return confluent.Consumer({
        "bootstrap.servers": NODE,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "session.timeout.ms": 6000,
        **settings,
    })


def read(reader, count):
    values, end = [], time.monotonic() + PATIENCE_S
    while len(values) < count:
        assert time.monotonic() < end, f"{len(values)} of {count} records"
        message = reader.poll(1.0)
        if message is not None and message.error() is None:
            values.append(message.value().decode())
    assert reader.poll(1.0) is None, "there are more records than were sent"
    return values


def confluent_transactions():
    """What was committed is read, what was aborted isn't, and the group's positions come with it."""
    source, sink, group = topic(2), topic(2), name("group")
    plain = confluent.Producer({"bootstrap.servers": NODE, "enable.idempotence": True, "acks": "all"})
    for number in range(500):
        plain.produce(source, key=str(number), value=str(number))
    plain.flush()
    writer = confluent.Producer({"bootstrap.servers": NODE, "transactional.id": name("writer")})
    writer.init_transactions()
    reader = consumer(group)
    reader.subscribe([source])
    seen = 0
    while seen < 500:
        batch = [message for message in reader.consume(50, 5) if message.error() is None]
        assert batch, f"{seen} of 500 records"
        writer.begin_transaction()
        for message in batch:
            writer.produce(sink, key=message.key(), value=b"aborted " + message.value())
        writer.abort_transaction()
        writer.begin_transaction()
        for message in batch:
            writer.produce(sink, key=message.key(), value=message.value())
        writer.send_offsets_to_transaction(reader.position(reader.assignment()), reader.consumer_group_metadata())
        writer.commit_transaction()
        seen += len(batch)
    committed = reader.committed([confluent.TopicPartition(source, index) for index in range(2)])
    assert sum(position.offset for position in committed) == 500, committed
    reader.close()
    checker = consumer(name("group"))
    checker.subscribe([sink])
    assert sorted(map(int, read(checker, 500))) == list(range(500))
    checker.close()


def confluent_members(**settings):
    """Two members share a topic; when one is gone the other has all of it."""
    shared, group = topic(4), name("group")
    one, two = consumer(group, **settings), consumer(group, **settings)
    one.subscribe([shared])
    two.subscribe([shared])

    def until(what, holds):
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, what
            one.poll(0.1)
            two.poll(0.1)

    until("each has a half", lambda: (len(one.assignment()), len(two.assignment())) == (2, 2))
    one.close()
    one = consumer(name("group"))
    until("one has all", lambda: len(two.assignment()) == 4)
    two.close()
    one.close()


def codecs():
    """What one client compresses another one reads."""
    for codec in CODECS:
        shared = topic(1, compression_type="producer")
        producer = confluent.Producer({"bootstrap.servers": NODE, "compression.type": codec})
        for number in range(100):
            producer.produce(shared, f"confluent {number} " + "x" * 100)
        producer.flush()
        if codec in ("none", "gzip"):
            other = KafkaProducer(bootstrap_servers=NODE, compression_type=None if codec == "none" else codec)
            for number in range(100):
                other.send(shared, f"python {number} ".encode() + b"x" * 100)
            other.flush()
            other.close()
        total = 200 if codec in ("none", "gzip") else 100
        reader = consumer(name("group"))
        reader.subscribe([shared])
        assert len(read(reader, total)) == total
        reader.close()
        if codec in ("none", "gzip"):
            again = KafkaConsumer(shared, bootstrap_servers=NODE, auto_offset_reset="earliest",
                consumer_timeout_ms=3000)
            assert sum(1 for _ in again) == total
            again.close()


async def aiokafka():
    shared, group = topic(3), name("group")
    producer = AIOKafkaProducer(bootstrap_servers=NODE, transactional_id=name("writer"))
    await producer.start()
    async with producer.transaction():
        for number in range(100):
            await producer.send(shared, b"%d" % number)
    try:
        async with producer.transaction():
            await producer.send(shared, b"aborted")
            raise InterruptedError
    except InterruptedError:
        pass
    await producer.stop()
    reader = AIOKafkaConsumer(
        shared, bootstrap_servers=NODE, group_id=group, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await reader.start()
    values = [int((await asyncio.wait_for(reader.getone(), PATIENCE_S)).value) for _ in range(100)]
    assert sorted(values) == list(range(100))
    await reader.commit()
    await reader.stop()


def administration():
    client, shared = admin.AdminClient({"bootstrap.servers": NODE}), topic(1, retention_ms="604800000")
    for future in client.create_partitions([admin.NewPartitions(shared, 3)]).values():
        future.result()
    assert len(client.list_topics(shared).topics[shared].partitions) == 3
    for future in client.delete_topics([shared]).values():
        future.result()
    assert shared not in client.list_topics().topics


def main():
    steps = [
        ("confluent-kafka: transactions", confluent_transactions),
        ("confluent-kafka: two members", confluent_members),
        ("confluent-kafka: two members, cooperative", lambda: confluent_members(
            **{"partition.assignment.strategy": "cooperative-sticky"})),
        ("confluent-kafka, kafka-python: codecs", codecs),
        ("aiokafka: transactions and a group", lambda: asyncio.run(aiokafka())),
        ("confluent-kafka: administration", administration),
    ]
    for what, step in steps:
        begin = time.monotonic()
        step()
        print(f"ok  {what}  {1000 * (time.monotonic() - begin):.0f} ms", flush=True)


main()
