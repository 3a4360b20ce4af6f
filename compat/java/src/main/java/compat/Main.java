package compat;

import static compat.Client.check;

import java.util.Arrays;
import java.util.List;
import java.util.Properties;

/**
 * The Java client against a node.
 *
 * <pre>
 * Main HOST:PORT                       all checks
 * Main HOST:PORT write RUN             each codec, for others to read
 * Main HOST:PORT read RUN WRITER...    what others wrote
 * Main HOST:PORT member PROTOCOL GROUP TOPIC
 * Main HOST:PORT copy DIRECTORY NAME FROM TO
 * Main HOST:PORT lag TOPIC GROUP position|record
 * </pre>
 */
public final class Main {
    private static final String NAME = "java";

    private record Named(String what, Client.Step step) {}

    public static void main(String[] arguments) throws Exception {
        try (Client client = new Client(arguments[0])) {
            List<String> more = Arrays.asList(arguments).subList(1, arguments.length);
            switch (more.isEmpty() ? "" : more.get(0)) {
                case "write" -> Codecs.write(client, more.get(1), NAME);
                case "read" -> Codecs.read(client, NAME, more.get(1), more.subList(2, more.size()));
                case "member" -> Member.run(client, more.get(1), more.get(2), more.get(3));
                case "copy" -> Copier.run(client, more.subList(1, more.size()));
                case "lag" -> Lags.run(client, more.subList(1, more.size()));
                default -> checks(client);
            }
        } catch (AssertionError | Exception failed) {
            failed.printStackTrace();
            System.exit(1);
        }
    }

    private static void checks(Client client) throws Exception {
        List<Named> all = List.of(
            new Named("idempotent producing", () -> Records.idempotent(client)),
            new Named("each codec", () -> Records.codecs(client)),
            new Named("seek to an offset, a time, the end", () -> Records.seek(client)),
            new Named("transactions, with a group's offsets", () -> Transactions.copy(client)),
            new Named("a second producer of an id fences the first", () -> Transactions.fence(client)),
            new Named("a transaction ends by its timeout", () -> Transactions.timeout(client)),
            new Named("transactions as the admin client sees them", () -> Transactions.administration(client)),
            new Named("committed offsets and their metadata", () -> Groups.offsets(client)),
            new Named("leader epochs of committed offsets", () -> Groups.leaderEpoch(client)),
            new Named("two members, one killed: classic", () -> Groups.killed(client, "classic")),
            new Named("two members, one killed: consumer", () -> Groups.killed(client, "consumer")),
            new Named("topics: create, describe, alter, delete", () -> Administration.topics(client)),
            new Named("topics by their ids", () -> Administration.byId(client)),
            new Named("topics: what is refused", () -> Administration.refusals(client)),
            new Named("groups: list, describe, alter, delete", () -> Administration.groups(client)));
        int failures = 0;
        for (Named each : all) {
            long begin = System.nanoTime();
            try {
                each.step.run();
            } catch (AssertionError | Exception failed) {
                failures += 1;
                System.out.println("FAILED  " + NAME + ": " + each.what);
                failed.printStackTrace();
                continue;
            }
            System.out.printf("ok  %s %s: %s  %d ms%n", NAME, version(), each.what,
                (System.nanoTime() - begin) / 1_000_000);
        }
        check(failures + " checks failed", failures == 0);
    }

    private static String version() throws Exception {
        Properties version = new Properties();
        version.load(Main.class.getResourceAsStream("/kafka/kafka-version.properties"));
        return version.getProperty("version");
    }
}
