"""What each client writes in each codec, and each reads of all. The clients: confluent aiokafka kafka-python.

    python codecs_of_all.py HOST:PORT topics RUN WRITER...         makes the topics of these writers,
        of other programs too
    python codecs_of_all.py HOST:PORT write RUN CLIENT
    python codecs_of_all.py HOST:PORT read RUN CLIENT WRITER...
"""

import asyncio
import sys
import time

import aiokafka
import confluent_kafka as confluent
import kafka
from confluent_kafka import admin

NODE = sys.argv[1]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
COUNT = 300
PATIENCE_S = 60


def topic(run, writer, codec):
    return f"codecs-{run}-{writer}-{codec}"


def value(number):
    """Each 50th is null."""
    return None if number % 50 == 49 else b"%d:" % number + b"abcdefghij" * (number * 37 % 500)


def records(writer, codec):
    return [(f"{writer}-{number}".encode(), value(number), [("codec", codec.encode())]) for number in range(COUNT)]


def make(run, writers):
    client = admin.AdminClient({"bootstrap.servers": NODE})
    wanted = [
        admin.NewTopic(topic(run, writer, codec), 1, 1, config={"compression.type": "producer"})
        for writer in writers
        for codec in CODECS
    ]
    for future in client.create_topics(wanted).values():
        future.result()
    end = time.monotonic() + PATIENCE_S
    while not {each.topic for each in wanted} <= client.list_topics().topics.keys():
        assert time.monotonic() < end, "the topics are shown"


def write_confluent(name, codec):
    failures = []
    producer = confluent.Producer({
        "bootstrap.servers": NODE, "compression.type": codec, "enable.idempotence": True, "linger.ms": 200
    })
    for key, content, headers in records("confluent", codec):
        producer.produce(name, content, key, 0, headers=headers, on_delivery=lambda error,
            _: error and failures.append(error))
    assert producer.flush(PATIENCE_S) == 0 and not failures, failures


def read_confluent(name):
    reader = confluent.Consumer({"bootstrap.servers": NODE, "group.id": "codecs", "enable.auto.commit": False})
    reader.assign([confluent.TopicPartition(name, 0, confluent.OFFSET_BEGINNING)])
    found, end = [], time.monotonic() + PATIENCE_S
    while len(found) < COUNT:
        assert time.monotonic() < end, f"{len(found)} of {COUNT} records of {name}"
        message = reader.poll(1.0)
        if message is not None:
            assert message.error() is None, message.error()
            found.append((message.key(), message.value(), message.headers()))
    reader.close()
    return found


def write_kafka_python(name, codec):
    producer = kafka.KafkaProducer(
        bootstrap_servers=NODE, compression_type=None if codec == "none" else codec, linger_ms=200, batch_size=500_000
    )
    sent = [
        producer.send(name, content, key, headers, 0) for key, content, headers in records("kafka-python", codec)
    ]
    for future in sent:
        future.get(PATIENCE_S)
    producer.close()


def read_kafka_python(name):
    reader = kafka.KafkaConsumer(bootstrap_servers=NODE, enable_auto_commit=False)
    partition = kafka.TopicPartition(name, 0)
    reader.assign([partition])
    reader.seek_to_beginning(partition)
    found, end = [], time.monotonic() + PATIENCE_S
    while len(found) < COUNT:
        assert time.monotonic() < end, f"{len(found)} of {COUNT} records of {name}"
        for batch in reader.poll(1000).values():
            found += [(record.key, record.value, list(record.headers)) for record in batch]
    reader.close()
    return found


async def write_aiokafka(name, codec):
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=NODE, compression_type=None if codec == "none" else codec, linger_ms=200,
            max_batch_size=500_000,
        enable_idempotence=True,
    )
    await producer.start()
    sent = [await producer.send(name, content, key, 0, headers=headers) for key, content,
        headers in records("aiokafka", codec)]
    await asyncio.gather(*sent)
    await producer.stop()


async def read_aiokafka(name):
    reader = aiokafka.AIOKafkaConsumer(bootstrap_servers=NODE, enable_auto_commit=False)
    await reader.start()
    partition = aiokafka.TopicPartition(name, 0)
    reader.assign([partition])
    reader.seek(partition, 0)
    got = [await asyncio.wait_for(reader.getone(), PATIENCE_S) for _ in range(COUNT)]
    await reader.stop()
    return [(record.key, record.value, list(record.headers)) for record in got]


CLIENTS = {
    "confluent": (write_confluent, read_confluent),
    "kafka-python": (write_kafka_python, read_kafka_python),
    "aiokafka": (
        lambda name, codec: asyncio.run(write_aiokafka(name, codec)),
        lambda name: asyncio.run(read_aiokafka(name)),
    ),
}


def main():
    what, run, more = sys.argv[2], sys.argv[3], sys.argv[4:]
    if what == "topics":
        make(run, more)
        return
    write, read = CLIENTS[more[0]]
    for codec in CODECS:
        if what == "write":
            write(topic(run, more[0], codec), codec)
            continue
        for writer in more[1:]:
            found = read(topic(run, writer, codec))
            for number, (is_there, expected) in enumerate(zip(found, records(writer, codec), strict=True)):
                assert is_there == expected, (more[0], writer, codec, number, is_there, expected)
        print("ok  codecs:", more[0], "reads", codec, "of", *more[1:], flush=True)


main()
