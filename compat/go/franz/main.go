// Command franz is franz-go against a node.
//
//	franz HOST:PORT                       all checks
//	franz HOST:PORT write RUN             each codec, for others to read
//	franz HOST:PORT read RUN WRITER...    what others wrote
//	franz HOST:PORT member PROTOCOL GROUP TOPIC
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"compat/check"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	node       string
	background = context.Background()
	codecs     = map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
)

func main() {
	node = os.Args[1]
	more := append(os.Args[2:], "")
	switch more[0] {
	case "write":
		write(more[1])
	case "read":
		read(more[1], more[2:len(more)-1])
	case "member":
		member(more[1], more[2], more[3])
	default:
		check.Run("franz-go", []check.Step{
			{What: "idempotent producing", Run: idempotent},
			{What: "seek to an offset, a time, the end", Run: seek},
			{What: "a session of group and transactions, with aborts", Run: session},
			{What: "a second producer of an id fences the first", Run: fence},
			{What: "committed offsets and their metadata", Run: offsets},
			{What: "an offset beyond the end is committed, or refused by exactlog", Run: beyond},
			{What: "two members, one killed: classic", Run: func() { killed("classic") }},
			{What: "two members, one killed: consumer", Run: func() { killed("consumer") }},
			{What: "topics: create, describe, alter, delete", Run: topics},
			{What: "groups and transactions as kadm sees them", Run: groups},
		})
	}
}

func open(options ...kgo.Opt) *kgo.Client {
	all := []kgo.Opt{kgo.SeedBrokers(node), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	return check.Must(kgo.NewClient(append(all, options...)...))
}

func admin() *kadm.Client {
	return kadm.NewClient(open())
}

// topic makes one, and waits until it is shown: with Kafka that takes a moment.
func topic(partitions int32, settings map[string]*string) string {
	name, client := check.Name("topic"), admin()
	defer client.Close()
	check.Ok(check.Must(client.CreateTopic(background, partitions, 1, settings, name)).Err)
	check.Until(name+" is shown", func() bool {
		return check.Must(client.ListTopics(background, name))[name].Err == nil
	})
	return name
}

func produce(client *kgo.Client, topic string, from, to int) {
	for number := from; number < to; number++ {
		value := strconv.Itoa(number)
		client.Produce(background, &kgo.Record{Topic: topic, Key: []byte(value), Value: []byte(value)},
			func(_ *kgo.Record, err error) {
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			})
	}
	check.Ok(client.Flush(background))
}

// readAll reads a topic from offsets to the ends that a reader of committed records sees.
func readAll(topic string, from kadm.Offsets, options ...kgo.Opt) []*kgo.Record {
	client := admin()
	ends := check.Must(client.ListCommittedOffsets(background, topic))
	client.Close()
	starts, left := map[string]map[int32]kgo.Offset{topic: {}}, map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		start := int64(0)
		if at, is := from.Lookup(topic, end.Partition); is {
			start = at.At
		}
		if start < end.Offset {
			starts[topic][end.Partition] = kgo.NewOffset().At(start)
			left[end.Partition] = end.Offset
		}
	})
	var records []*kgo.Record
	if len(left) == 0 {
		return records
	}
	reader := open(append(options, kgo.ConsumePartitions(starts), kgo.KeepControlRecords())...)
	defer reader.Close()
	limited, cancel := context.WithTimeout(background, check.Patience)
	defer cancel()
	for len(left) > 0 {
		fetches := reader.PollFetches(limited)
		check.Ok(fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			if !record.Attrs.IsControl() {
				records = append(records, record)
			}
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
		})
	}
	return records
}

func values(records []*kgo.Record) []string {
	all := make([]string, 0, len(records))
	for _, record := range records {
		all = append(all, string(record.Value))
	}
	return all
}

func idempotent() {
	topic, client := topic(4, nil), open(kgo.ProducerBatchMaxBytes(512))
	defer client.Close()
	produce(client, topic, 0, 2000)
	records := readAll(topic, nil)
	check.Numbers("records", values(records), 0, 2000)
	highest := map[int32]int64{}
	for _, record := range records {
		highest[record.Partition] = max(highest[record.Partition], record.Offset+1)
	}
	check.Same("partitions", len(highest), 4)
	check.Same("offsets are dense", highest[0]+highest[1]+highest[2]+highest[3], 2000)
}

func seek() {
	topic, client, asker := topic(1, nil), open(), admin()
	defer client.Close()
	defer asker.Close()
	first := time.Now().Add(-time.Hour).Truncate(time.Second)
	for number := range 1000 {
		client.Produce(background, &kgo.Record{
			Topic: topic, Value: []byte(strconv.Itoa(number)),
			Timestamp: first.Add(time.Duration(number) * time.Second),
		}, nil)
	}
	check.Ok(client.Flush(background))
	at := kadm.Offsets{}
	at.AddOffset(topic, 0, 600, -1)
	check.Numbers("from offset 600", values(readAll(topic, at)), 600, 1000)
	found := check.Must(asker.ListOffsetsAfterMilli(background, first.Add(299_001*time.Millisecond).UnixMilli(), topic))
	check.Same("offset of a time", found[topic][0].Offset, 300)
	check.Same("time at the offset", found[topic][0].Timestamp, first.Add(300*time.Second).UnixMilli())
	check.Numbers("from a time", values(readAll(topic, found.Offsets())), 300, 1000)
	late := check.Must(asker.ListOffsetsAfterMilli(background, first.Add(time.Hour).UnixMilli(), topic))
	check.Same("a time after all is the end", late[topic][0].Offset, 1000)
	check.Same("the start", check.Must(asker.ListStartOffsets(background, topic))[topic][0].Offset, 0)
	highest := check.Must(asker.ListMaxTimestampOffsets(background, topic))
	check.Same("the highest timestamp is at", highest[topic][0].Offset, 999)
}

// session writes each batch in a transaction of its own; each third is aborted, and comes again.
func session() {
	source, sink, group := topic(2, nil), topic(2, nil), check.Name("group")
	plain := open()
	produce(plain, source, 0, 1000)
	plain.Close()
	session := check.Must(kgo.NewGroupTransactSession(
		kgo.SeedBrokers(node), kgo.TransactionalID(check.Name("writer")), kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(source),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RequireStableFetchOffsets(),
	))
	defer session.Close()
	limited, cancel := context.WithTimeout(background, check.Patience)
	defer cancel()
	seen, aborted := 0, 0
	for round := 0; seen < 1000; round++ {
		fetches := session.PollRecords(limited, 100)
		check.Ok(fetches.Err())
		check.Ok(session.Begin())
		fetches.EachRecord(func(record *kgo.Record) {
			session.Produce(limited, &kgo.Record{Topic: sink, Key: record.Key, Value: record.Value}, nil)
		})
		commit := kgo.TransactionEndTry(round%3 != 0)
		committed := check.Must(session.End(limited, commit))
		check.Same("it was committed", committed, bool(commit))
		if committed {
			seen += fetches.NumRecords()
		} else {
			aborted++
		}
	}
	check.That("some were aborted", aborted > 2)
	check.Numbers("committed", values(readAll(sink, nil)), 0, 1000)
	asker := admin()
	defer asker.Close()
	sum := int64(0)
	check.Must(asker.FetchOffsets(background, group)).Each(func(offset kadm.OffsetResponse) { sum += offset.At })
	check.Same("the group's offsets", sum, 1000)
}

func fence() {
	topic, id := topic(1, nil), check.Name("writer")
	first, second := open(kgo.TransactionalID(id)), open(kgo.TransactionalID(id))
	defer first.Close()
	defer second.Close()
	check.Ok(first.BeginTransaction())
	produce(first, topic, 0, 1)
	check.Ok(second.BeginTransaction())
	produce(second, topic, 1, 2)
	fenced := first.EndTransaction(background, kgo.TryCommit)
	check.That(fmt.Sprint("the first is fenced, not ", fenced),
		errors.Is(fenced, kerr.InvalidProducerEpoch) || errors.Is(fenced, kerr.ProducerFenced))
	check.Ok(second.EndTransaction(background, kgo.TryCommit))
	check.Numbers("committed", values(readAll(topic, nil)), 1, 2)
}

func offsets() {
	topic, group, client := filled(), check.Name("group"), admin()
	defer client.Close()
	commit := kadm.Offsets{}
	commit.Add(kadm.Offset{Topic: topic, Partition: 1, At: 5, LeaderEpoch: -1, Metadata: "zwölf: 十二"})
	check.Ok(client.CommitAllOffsets(background, group, commit))
	found := check.Must(client.FetchOffsets(background, group))
	check.Same("partitions", len(found[topic]), 1)
	check.Same("offset", found[topic][1].At, 5)
	check.Same("metadata", found[topic][1].Metadata, "zwölf: 十二")
}

// beyond is what tools do that restore positions before records.
func beyond() {
	topic, client := topic(1, nil), admin()
	defer client.Close()
	commit := kadm.Offsets{}
	commit.AddOffset(topic, 0, 5, -1)
	err := client.CommitAllOffsets(background, check.Name("group"), commit)
	if os.Getenv("BROKER") == "kafka" {
		check.Ok(err)
	} else {
		check.That(fmt.Sprint("it is refused: ", err), errors.Is(err, kerr.OffsetOutOfRange))
	}
}

// filled is a topic of two partitions with 100 records.
func filled() string {
	topic, client := topic(2, nil), open()
	defer client.Close()
	produce(client, topic, 0, 100)
	return topic
}

func killed(protocol string) {
	topic, group, client := topic(4, nil), check.Name("group"), open()
	defer client.Close()
	check.Killed(
		func() *check.Member { return check.Start(node, "member", protocol, group, topic) },
		func(from, to int) { produce(client, topic, from, to) },
	)
	asker := admin()
	defer asker.Close()
	sum := int64(0)
	check.Must(asker.FetchOffsets(background, group)).Each(func(offset kadm.OffsetResponse) { sum += offset.At })
	check.Same("committed offsets", sum, 800)
}

// member says lines `p` with the number of its partitions, and `c` with what is committed, until its input ends.
func member(protocol, group, topic string) {
	partitions := 0
	change := func(by int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			partitions += by * len(changed[topic])
			fmt.Println("p", partitions)
		}
	}
	limited, cancel := context.WithCancel(background)
	if protocol == "consumer" {
		limited = context.WithValue(limited, "opt_in_kafka_next_gen_balancer_beta", true)
	}
	client := open(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.SessionTimeout(6*time.Second),
		kgo.DisableAutoCommit(),
		kgo.WithContext(limited), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(change(1)), kgo.OnPartitionsRevoked(change(-1)), kgo.OnPartitionsLost(change(-1)))
	ended := check.Ended()
	polling, stop := context.WithCancel(background)
	go func() {
		<-ended
		stop()
	}()
	for polling.Err() == nil {
		fetches := client.PollFetches(polling)
		var all []string
		fetches.EachRecord(func(record *kgo.Record) { all = append(all, string(record.Value)) })
		if len(all) > 0 && client.CommitUncommittedOffsets(background) == nil {
			fmt.Println("c", strings.Join(all, " "))
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	cancel()
}

func topics() {
	week, snappy, policy := "604800000", "snappy", "delete"
	topic, client := topic(2, map[string]*string{"retention.ms": &week, "compression.type": &snappy,
		"cleanup.policy": &policy}), admin()
	defer client.Close()
	setting := func(key string) string {
		described := check.Must(check.Must(client.DescribeTopicConfigs(background, topic)).On(topic, nil))
		for _, config := range described.Configs {
			if config.Key == key {
				return config.MaybeValue()
			}
		}
		return "(none)"
	}
	check.Same("retention.ms", setting("retention.ms"), week)
	check.Same("compression.type", setting("compression.type"), snappy)
	check.Same("cleanup.policy", setting("cleanup.policy"), policy)
	day := "86400000"
	altered := check.Must(client.AlterTopicConfigs(background, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "retention.ms", Value: &day}, {Op: kadm.DeleteConfig, Name: "compression.type"},
	}, topic))
	check.Ok(altered[0].Err)
	check.Same("retention.ms", setting("retention.ms"), day)
	check.Same("compression.type", setting("compression.type"), "producer")
	check.Ok(check.Must(client.UpdatePartitions(background, 5, topic))[topic].Err)
	check.Until("it has five partitions", func() bool {
		return len(check.Must(client.ListTopics(background, topic))[topic].Partitions) == 5
	})
	exists := check.Must(client.CreateTopics(background, 1, 1, nil, topic))[topic].Err
	check.That(fmt.Sprint("it exists: ", exists), errors.Is(exists, kerr.TopicAlreadyExists))
	writer := open(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer writer.Close()
	for range 20 {
		check.Ok(writer.ProduceSync(background, &kgo.Record{Topic: topic, Partition: 3, Value: []byte("0")}).FirstErr())
	}
	before := kadm.Offsets{}
	before.AddOffset(topic, 3, 10, -1)
	check.Same("the start after deleting", check.Must(client.DeleteRecords(background,
		before))[topic][3].LowWatermark, 10)
	check.Same("records that are left", len(readAll(topic, check.Must(client.ListStartOffsets(background,
		topic)).Offsets())), 10)
	check.Ok(check.Must(client.DeleteTopic(background, topic)).Err)
	check.Until("it is gone", func() bool { return !check.Must(client.ListTopics(background)).Has(topic) })
}

func groups() {
	topic, group, id, client := filled(), check.Name("group"), check.Name("writer"), admin()
	defer client.Close()
	commit := kadm.Offsets{}
	commit.AddOffset(topic, 0, 7, -1)
	commit.AddOffset(topic, 1, 8, -1)
	check.Ok(client.CommitAllOffsets(background, group, commit))
	check.That("it is listed", len(check.Must(client.ListGroups(background))[group].Group) > 0)
	check.Same("state", check.Must(client.DescribeGroups(background, group))[group].State, "Empty")
	one := kadm.TopicsSet{}
	one.Add(topic, 1)
	check.Ok(check.Must(client.DeleteOffsets(background, group, one)).Error())
	check.Same("offsets that are left", len(check.Must(client.FetchOffsets(background, group))[topic]), 1)
	check.Ok(check.Must(client.DeleteGroup(background, group)).Err)
	check.That("it is gone", check.Must(client.ListGroups(background))[group].Group == "")

	writer := open(kgo.TransactionalID(id))
	defer writer.Close()
	check.Ok(writer.BeginTransaction())
	produce(writer, topic, 0, 1)
	described := check.Must(client.DescribeTransactions(background, id))[id]
	check.Same("state of the transaction", described.State, "Ongoing")
	listed := check.Must(client.ListTransactions(background, nil, []string{"Ongoing"}))
	check.Same("it is listed", listed[id].ProducerID, described.ProducerID)
	check.Ok(writer.EndTransaction(background, kgo.TryAbort))
	check.Until("it is aborted", func() bool {
		return check.Must(client.DescribeTransactions(background, id))[id].State == "CompleteAbort"
	})
}

func write(run string) {
	for _, codec := range check.Codecs {
		client := open(kgo.ProducerBatchCompression(codecs[codec]), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerLinger(200*time.Millisecond))
		for number := range check.CodecCount {
			client.Produce(background, &kgo.Record{
				Topic: check.CodecTopic(run, "franz-go", codec), Key: []byte("franz-go-" + strconv.Itoa(number)),
				Value:   check.CodecValue(number),
				Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte(codec)}},
			}, func(_ *kgo.Record, err error) { check.Ok(err) })
		}
		check.Ok(client.Flush(background))
		client.Close()
	}
}

// read also looks at the codec that each record came in.
func read(run string, writers []string) {
	numbers := map[string]uint8{"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
	for _, codec := range check.Codecs {
		for _, writer := range writers {
			records := readAll(check.CodecTopic(run, writer, codec), nil)
			check.Same(writer+" "+codec+": records", len(records), check.CodecCount)
			for number, record := range records {
				check.CodecRecord(writer, codec, number, record.Offset, record.Key, record.Value,
					record.Headers[0].Value)
				check.Same(writer+" "+codec+": codec of the batch", record.Attrs.CompressionType(), numbers[codec])
			}
		}
		fmt.Println("ok  codecs: franz-go reads", codec, "of", strings.Join(writers, " "))
	}
}
