"""Copies records in transactions, with the positions of its group, until a file `stop` is there (confluent-kafka).

    python copier.py HOST:PORT DIRECTORY NAME FROM TO
        GROUP_PROTOCOL=classic or consumer, for its group

A record is a number. Its copy goes to the partition that the number says, as `NUMBER NAME TRANSACTION NTH OF ALL`:
it is the NTH of OF records that the transaction writes to that partition, and of ALL in all partitions. Each tenth
transaction is aborted, and its records come again.

DIRECTORY/NAME.state says at any time where it stands, in 16 bytes that are written at once: `idle`, `begins`, `open`
(its records are acknowledged), `commit` (it was asked for, and isn't answered), `abort`; and the number of its
transaction. What became of each transaction is a line on standard output.
"""

import os
import sys
import time

import confluent_kafka as confluent

NODE, DIRECTORY, NAME, SOURCE, SINK = sys.argv[1:]
GROUP = {
    "classic": {
        "partition.assignment.strategy": "range",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 300,
    },
    "consumer": {"group.protocol": "consumer", "group.remote.assignor": "range"},
}
RECORDS = 20
ABORTED = 10


class Copier:
    def __init__(self):
        self.state = os.open(f"{DIRECTORY}/{NAME}.state", os.O_RDWR | os.O_CREAT)
        # One that was started again goes on counting.
        self.number = int((os.pread(self.state, 16, 0).split() or ["", 0])[-1])
        # Rises with each change of the partitions: what was read before it isn't copied.
        self.generation = 0
        self.reader = confluent.Consumer({
            "bootstrap.servers": NODE,
            "log_level": 0,
            "group.id": "copiers",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            **GROUP[os.environ.get("GROUP_PROTOCOL", "classic")],
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 100,
            "topic.metadata.refresh.interval.ms": 1000,
        })
        self.writer = self.producer()
        self.partitions = len(self.writer.list_topics(SINK, 30).topics[SINK].partitions)
        self.reader.subscribe([SOURCE], on_assign=self.moved, on_revoke=self.moved, on_lost=self.moved)

    def moved(self, *_):
        self.generation += 1

    def producer(self):
        writer = confluent.Producer({
            "bootstrap.servers": NODE,
            "log_level": 0,
            "transactional.id": NAME,
            # Where all brokers are gone for a moment it would forget the one that has the group, and hang in
            # send_offsets_to_transaction for ever (librdkafka 2.16, its issues 5456 and 5511).
            "metadata.recovery.strategy": "none",
            "linger.ms": 0,
            "retry.backoff.ms": 20,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 100,
        })
        self.again(writer.init_transactions, 30)
        return writer

    def says(self, line):
        print(line, flush=True)

    def stands(self, state):
        os.pwrite(self.state, f"{state:<8}{self.number:8}".encode(), 0)

    def again(self, call, *arguments):
        """Asks until the answer is none that may be another one next time."""
        while True:
            try:
                return call(*arguments)
            except confluent.KafkaException as failed:
                if not failed.args[0].retriable() or failed.args[0].txn_requires_abort():
                    raise
                self.says(f"again {self.number} {failed.args[0]}")

    def read(self):
        records, generation = [], self.generation
        end = time.monotonic() + 0.2
        while len(records) < RECORDS and (left := end - time.monotonic()) > 0:
            message = self.reader.poll(left if not records else 0.0)
            if self.generation != generation:
                records, generation = [], self.generation
            if message is None and records:
                break
            if message is not None and message.error() is None:
                records.append(message)
        return records

    def step(self):
        records = self.read()
        if not records:
            return
        self.number += 1
        try:
            self.transaction(records)
        except confluent.KafkaException as failed:
            error = failed.args[0]
            self.says(f"failed {self.number} {error}")
            if error.fatal():
                self.anew(error)
            else:
                self.abort()
        self.stands("idle")

    def transaction(self, records):
        self.stands("begins")
        self.writer.begin_transaction()
        values = {}
        for record in records:
            number = int(record.value())
            values.setdefault(number % self.partitions, []).append(number)
        for partition, numbers in values.items():
            for nth, number in enumerate(numbers):
                value = f"{number} {NAME} {self.number} {nth} {len(numbers)} {len(records)}"
                self.writer.produce(SINK, value, str(number), partition=partition)
        if self.writer.flush(30):
            raise confluent.KafkaException(confluent.KafkaError(confluent.KafkaError._TIMED_OUT))
        self.stands("open")
        time.sleep(0.005)
        behind = {(record.topic(), record.partition()): record.offset() + 1 for record in records}
        positions = [confluent.TopicPartition(*at, offset) for at, offset in behind.items()]
        metadata = self.reader.consumer_group_metadata()
        self.again(self.writer.send_offsets_to_transaction, positions, metadata, 30)
        if self.number % ABORTED == 0:
            self.abort()
            return
        self.stands("commit")
        self.again(self.writer.commit_transaction, 30)
        self.says(f"committed {self.number}")

    def abort(self):
        """Ends the transaction, and goes back to where the group is."""
        self.stands("abort")
        try:
            self.again(self.writer.abort_transaction, 30)
        except confluent.KafkaException as fatal:
            self.anew(fatal.args[0])
            return
        self.says(f"aborted {self.number}")
        self.rewind()

    def anew(self, error):
        self.says(f"fatal {self.number} {error}")
        self.writer = self.producer()
        self.rewind()

    def rewind(self):
        while True:
            try:
                for at in self.reader.committed(self.reader.assignment(), 10):
                    self.reader.seek(confluent.TopicPartition(at.topic, at.partition, max(at.offset, 0)))
                return
            except confluent.KafkaException as failed:
                self.says(f"again {self.number} {failed.args[0]}")
                # Its partitions may change meanwhile: that happens in here.
                generation = self.generation
                self.reader.pause(self.reader.assignment())
                self.reader.poll(0.1)
                if self.generation == generation:
                    self.reader.resume(self.reader.assignment())


def main():
    copier = Copier()
    while not os.path.exists(f"{DIRECTORY}/stop"):
        copier.step()
    copier.says("ended")
    copier.reader.close()


main()
