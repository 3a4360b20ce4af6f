# What the scripts beside this file share: folders, and a node or a real Kafka that is started, killed and ended.
# It is sourced, not run. Everything that is fetched or made goes into the target directory.
#
#   BROKER=exactlog (default) or kafka; EXACTLOG=FILE a program that is built already; PORT_BASE, the first port (29300)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
target=${CARGO_TARGET_DIR:-$root/target}
cache=$target/compat
export BROKER=${BROKER:-exactlog}
KAFKA_VERSION=$(sed -n '/kafka_2.13/{n;s/.*<version>\(.*\)<.*/\1/p}' "$here/kafka/pom.xml")
PORT_BASE=${PORT_BASE:-29300}
broker_pid=''
mkdir -p "$cache"

die() { echo "$*" >&2; exit 1; }

# has PROGRAM...: all of them are there; else the part that asks is left out, and that is said.
has() {
    local program
    for program in "$@"; do
        if ! command -v "$program" > /dev/null; then
            echo "left out: ${part:-?}, as there is no $program" | tee -a "$cache/left_out"
            return 1
        fi
    done
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" 2> /dev/null; do
        [ "$SECONDS" -lt "$end" ] || { echo "$what: not within its time" >&2; return 1; }
        sleep 0.1
    done
}

# answers HOST:PORT: a broker there answers ApiVersions in version 0, without an error. An open port alone isn't enough.
answers() {
    python3 - "$1" << 'PYTHON'
import socket, struct, sys
host, port = sys.argv[1].rsplit(":", 1)
try:
    with socket.create_connection((host, int(port)), 3) as link:
        link.settimeout(3)
        link.sendall(struct.pack(">ihhih", 10, 18, 0, 41, -1))
        got = link.makefile("rb").read(10)
    sys.exit(0 if len(got) == 10 and struct.unpack(">ih", got[4:]) == (41, 0) else 1)
except OSError:
    sys.exit(1)
PYTHON
}

# maven FOLDER [ARGUMENT...]: the dependencies of compat/FOLDER/pom.xml, and its classes if it has any; prints the class
# path. It is made anew when something in the folder has changed.
maven() {
    local folder=$1 made
    shift
    made=$cache/maven/$folder$(printf '%s' "$*" | tr -c 'a-zA-Z0-9.-' '_')
    if [ ! -f "$made/complete" ] || [ -n "$(find "$here/$folder" -type f -newer "$made/complete")" ]; then
        rm -rf "$made"
        mkdir -p "$made"
        cp -r "$here/$folder/." "$made"
        touch -r "$here/$folder/pom.xml" "$made/begun"
        (cd "$made" && mvn -q -B "$@" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=lib \
            compile > mvn.log 2>&1) || { tail -20 "$made/mvn.log" >&2; return 1; }
        touch "$made/complete"
    fi
    echo "$made/target/classes:$made/lib/*"
}

# node_settings and kafka_settings give both the same behaviour, as far as clients can see it.
node_settings=(-X group.initial.rebalance.delay.ms=0)
kafka_settings() {
    local port=$1 dir=$2
    cat << SETTINGS
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
log.dirs=$dir/data
num.partitions=10
log.retention.ms=-1
offsets.topic.num.partitions=10
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=10
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=200
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100
log.cleaner.dedupe.buffer.size=20000000
SETTINGS
}

# exactlog_program: the program; it is built unless EXACTLOG names one.
exactlog_program() {
    if [ -z "${EXACTLOG:-}" ]; then
        cargo build --release -p exactlog-cli --manifest-path "$root/Cargo.toml"
        EXACTLOG=$target/release/exactlog
    fi
    [ -x "$EXACTLOG" ] || die "there is no program $EXACTLOG"
}

# broker_start PORT DIRECTORY [KEY=VALUE...]: a node or a Kafka on a directory, which is made when it isn't there; it is
# started again where one was killed. NODE is its address, broker_pid its process, broker_command how it was started.
# Settings hold for both, but for those that say for whom they are: exactlog:KEY=VALUE, kafka:KEY=VALUE, exactlog:no-dev.
broker_start() {
    local port=$1 dir=$2 setting dev=--dev
    shift 2
    mkdir -p "$dir"
    NODE=127.0.0.1:$port
    ! answers "$NODE" || die "something answers at $NODE already"
    if [ "$BROKER" = exactlog ]; then
        local settings=("${node_settings[@]}")
        for setting in "$@"; do
            case $setting in
                kafka:*) ;;
                exactlog:no-dev) dev='' ;;
                *) settings+=(-X "${setting#exactlog:}") ;;
            esac
        done
        exactlog_program
        # shellcheck disable=SC2206 # no word at all, or one
        broker_command=("$EXACTLOG" serve $dev --data "$dir/data" --listen "$NODE" --http 127.0.0.1:0 "${settings[@]}")
    else
        local cp java=(java -Xmx1g "-Dlog4j2.configurationFile=$here/kafka/log4j2.yaml")
        cp=$(maven kafka)
        if [ ! -f "$dir/server.properties" ]; then
            kafka_settings "$port" "$dir" > "$dir/server.properties"
            for setting in "$@"; do
                [[ $setting = exactlog:* ]] || echo "${setting#kafka:}" >> "$dir/server.properties"
            done
            "${java[@]}" -cp "$cp" kafka.tools.StorageTool format -t ZXhhY3Rsb2ctY29tcGF0MA \
                -c "$dir/server.properties" > "$dir/format.out" 2>&1 || die "$(cat "$dir/format.out")"
        fi
        broker_command=("${java[@]}" -cp "$cp" kafka.Kafka "$dir/server.properties")
    fi
    "${broker_command[@]}" >> "$dir/broker.out" 2>> "$dir/broker.err" < /dev/null &
    broker_pid=$!
    wait_for 60 "$BROKER on $NODE" broker_answers || { tail -5 "$dir/broker.err" >&2; exit 1; }
}

broker_answers() {
    kill -0 "$broker_pid" || die "$BROKER has ended"
    answers "$NODE"
}

# broker_end [SIGNAL]: TERM unless KILL is said.
broker_end() {
    [ -n "$broker_pid" ] || return 0
    kill -"${1:-TERM}" "$broker_pid" 2> /dev/null || true
    wait "$broker_pid" 2> /dev/null || true
    broker_pid=''
}
