package compat;

import java.io.BufferedReader;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.KafkaConsumer;

/** A member of a group in a process of its own, which can be killed. It says what it has and what it has committed. */
final class Member implements AutoCloseable {
    private final Process process;
    private volatile Set<Integer> partitions = Set.of();
    final Set<Integer> committed = new ConcurrentSkipListSet<>();

    Member(String node, String protocol, String group, String topic) throws Exception {
        process = new ProcessBuilder(ProcessHandle.current().info().command().orElse("java"), "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", System.getProperty("java.class.path"),
            "compat.Main", node, "member", protocol, group,
                topic).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        Thread listener = new Thread(this::listen);
        listener.setDaemon(true);
        listener.start();
    }

    private void listen() {
        try (BufferedReader lines = process.inputReader()) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                Set<Integer> numbers = new TreeSet<>();
                for (String number : line.substring(2).split(" ")) {
                    if (!number.isEmpty()) {
                        numbers.add(Integer.valueOf(number));
                    }
                }
                if (line.startsWith("p ")) {
                    partitions = numbers;
                } else {
                    committed.addAll(numbers);
                }
            }
        } catch (IOException gone) {
            // Its process has ended.
        }
    }

    Set<Integer> partitions() {
        return partitions;
    }

    /** SIGKILL: it neither commits nor leaves. */
    void kill() throws InterruptedException {
        Client.check("the member that is to be killed runs", process.isAlive());
        process.destroyForcibly();
        Client.same("status of a killed member", process.waitFor(), 137);
    }

    /** It leaves its group. */
    @Override
    public void close() throws Exception {
        if (process.isAlive()) {
            process.outputWriter().close();
            process.waitFor();
        }
    }

    /** The process itself: lines `p` with its partitions and `c` with what is committed, until its input ends. */
    static void run(Client client, String protocol, String group, String topic) throws Exception {
        String[] settings = protocol.equals("consumer")
            ? new String[] {"group.protocol", "consumer"} : new String[] {"session.timeout.ms", "6000"};
        AtomicBoolean ended = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException gone) {
                // As if it had ended.
            }
            ended.set(true);
        });
        input.setDaemon(true);
        input.start();
        try (KafkaConsumer<String, String> consumer = client.consumer(group, settings)) {
            consumer.subscribe(List.of(topic));
            Set<Integer> said = Set.of();
            while (!ended.get()) {
                StringBuilder values = new StringBuilder("c");
                consumer.poll(Duration.ofMillis(100)).forEach(record -> values.append(' ').append(record.value()));
                Set<Integer> has = new TreeSet<>(consumer.assignment().stream().map(each -> each.partition()).toList());
                if (!has.equals(said)) {
                    said = has;
                    System.out.println("p " + String.join(" ", has.stream().map(String::valueOf).toList()));
                }
                if (values.length() > 1) {
                    consumer.commitSync();
                    System.out.println(values);
                }
            }
        }
    }
}
