package compat;

import java.util.List;
import java.util.Objects;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** What each client writes in each codec, and each reads of all. */
final class Codecs {
    static final List<String> ALL = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final int COUNT = 300;

    static String topic(String run, String writer, String codec) {
        return "codecs-" + run + "-" + writer + "-" + codec;
    }

    /** Each 50th value is null. */
    static String value(int number) {
        return number % 50 == 49 ? null : number + ":" + "abcdefghij".repeat(number * 37 % 500);
    }

    static void write(Client client, String run, String writer) {
        for (String codec : ALL) {
            try (KafkaProducer<String, String> producer = client.producer("compression.type", codec,
                "batch.size", "500000", "linger.ms", "200")) {
                for (int number = 0; number < COUNT; number++) {
                    ProducerRecord<String, String> record =
                        new ProducerRecord<>(topic(run, writer, codec), 0, writer + "-" + number, value(number));
                    record.headers().add("codec", codec.getBytes());
                    producer.send(record);
                }
            }
        }
    }

    static void read(Client client, String reader, String run, List<String> writers) {
        for (String codec : ALL) {
            for (String writer : writers) {
                TopicPartition partition = new TopicPartition(topic(run, writer, codec), 0);
                List<ConsumerRecord<String, String>> records;
                try (KafkaConsumer<String, String> consumer = client.consumer(null)) {
                    consumer.assign(List.of(partition));
                    records = Client.readToEnd(consumer);
                }
                Client.same("records of " + partition, records.size(), COUNT);
                for (int number = 0; number < COUNT; number++) {
                    ConsumerRecord<String, String> record = records.get(number);
                    Client.same("offset", record.offset(), (long) number);
                    Client.same(partition + " key", record.key(), writer + "-" + number);
                    Client.check(partition + " value " + number, Objects.equals(record.value(), value(number)));
                    Client.same("header", new String(record.headers().lastHeader("codec").value()), codec);
                }
            }
            System.out.println("ok  codecs: " + reader + " reads " + codec + " of " + String.join(" ", writers));
        }
    }
}
