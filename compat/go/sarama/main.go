// Command sarama is Sarama against a node.
//
//	sarama HOST:PORT                       all checks
//	sarama HOST:PORT write RUN             each codec, for others to read
//	sarama HOST:PORT read RUN WRITER...    what others wrote
//	sarama HOST:PORT member GROUP TOPIC
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

	"github.com/IBM/sarama"
)

var (
	node   string
	codecs = map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
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
		member(more[1], more[2])
	default:
		check.Run("sarama", []check.Step{
			{What: "idempotent producing", Run: idempotent},
			{What: "seek to an offset, a time, the end", Run: seek},
			{What: "transactions, with a group's offsets", Run: transactions},
			{What: "a second producer of an id fences the first", Run: fence},
			{What: "committed offsets and their metadata", Run: offsets},
			{What: "two members, one killed", Run: killed},
			{What: "topics and groups: create, describe, alter, delete", Run: administration},
		})
	}
}

// settings are those of exactly-once, in the newest dialect that there is.
func settings(change func(*sarama.Config)) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	if change != nil {
		change(config)
	}
	check.Ok(config.Validate())
	return config
}

func producer(change func(*sarama.Config)) sarama.SyncProducer {
	return check.Must(sarama.NewSyncProducer([]string{node}, settings(change)))
}

func transactional(id string) sarama.SyncProducer {
	return producer(func(config *sarama.Config) { config.Producer.Transaction.ID = id })
}

func admin() sarama.ClusterAdmin {
	return check.Must(sarama.NewClusterAdmin([]string{node}, settings(nil)))
}

// topic makes one, and waits until it is shown: with Kafka that takes a moment.
func topic(partitions int32, entries map[string]*string) string {
	name, client := check.Name("topic"), admin()
	defer client.Close()
	check.Ok(client.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1,
		ConfigEntries: entries}, false))
	check.Until(name+" is shown", func() bool {
		found := check.Must(client.DescribeTopics([]string{name}))
		return found[0].Err == sarama.ErrNoError
	})
	return name
}

func produce(client sarama.SyncProducer, topic string, from, to int) {
	var messages []*sarama.ProducerMessage
	for number := from; number < to; number++ {
		value := sarama.StringEncoder(strconv.Itoa(number))
		messages = append(messages, &sarama.ProducerMessage{Topic: topic, Key: value, Value: value})
	}
	check.Ok(client.SendMessages(messages))
}

// readAll reads a topic from an offset of each partition to the end that it has now.
func readAll(topic string, from int64, change func(*sarama.Config)) []*sarama.ConsumerMessage {
	client := check.Must(sarama.NewClient([]string{node}, settings(change)))
	consumer := check.Must(sarama.NewConsumerFromClient(client))
	defer client.Close()
	var records []*sarama.ConsumerMessage
	for _, partition := range check.Must(client.Partitions(topic)) {
		end := check.Must(client.GetOffset(topic, partition, sarama.OffsetNewest))
		if from >= end {
			continue
		}
		reader := check.Must(consumer.ConsumePartition(topic, partition, from))
		// A marker of a transaction has an offset, and isn't handed out: what follows the last record shows that it
		// was last.
		for quiet := false; !quiet; {
			select {
			case record := <-reader.Messages():
				records = append(records, record)
				quiet = record.Offset+1 >= end
			case <-time.After(2 * time.Second):
				quiet = true
			}
		}
		check.Ok(reader.Close())
	}
	return records
}

func values(records []*sarama.ConsumerMessage) []string {
	all := make([]string, 0, len(records))
	for _, record := range records {
		all = append(all, string(record.Value))
	}
	return all
}

func idempotent() {
	topic, client := topic(4, nil), producer(func(config *sarama.Config) { config.Producer.Flush.MaxMessages = 10 })
	defer client.Close()
	produce(client, topic, 0, 2000)
	records := readAll(topic, 0, nil)
	check.Numbers("records", values(records), 0, 2000)
	ends := map[int32]int64{}
	for _, record := range records {
		ends[record.Partition] = max(ends[record.Partition], record.Offset+1)
	}
	check.Same("offsets are dense", ends[0]+ends[1]+ends[2]+ends[3], 2000)
}

func seek() {
	topic, client := topic(1, nil), producer(nil)
	defer client.Close()
	first := time.Now().Add(-time.Hour).Truncate(time.Second)
	var messages []*sarama.ProducerMessage
	for number := range 1000 {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: topic, Value: sarama.StringEncoder(strconv.Itoa(number)),
			Timestamp: first.Add(time.Duration(number) * time.Second),
		})
	}
	check.Ok(client.SendMessages(messages))
	check.Numbers("from offset 600", values(readAll(topic, 600, nil)), 600, 1000)
	asker := check.Must(sarama.NewClient([]string{node}, settings(nil)))
	defer asker.Close()
	check.Same("offset of a time", check.Must(asker.GetOffset(topic, 0,
		first.Add(299_001*time.Millisecond).UnixMilli())), 300)
	check.Same("the end", check.Must(asker.GetOffset(topic, 0, sarama.OffsetNewest)), 1000)
	check.Same("the start", check.Must(asker.GetOffset(topic, 0, sarama.OffsetOldest)), 0)
	check.Same("a time after all", check.Must(asker.GetOffset(topic, 0, first.Add(time.Hour).UnixMilli())), -1)
}

// transactions writes each hundred twice, the first time in one that is aborted.
func transactions() {
	source, sink, group := topic(1, nil), topic(2, nil), check.Name("group")
	plain, writer, client := producer(nil), transactional(check.Name("writer")), admin()
	defer plain.Close()
	defer writer.Close()
	defer client.Close()
	produce(plain, source, 0, 1000)
	position := func() int64 {
		found := check.Must(client.ListConsumerGroupOffsets(group, map[string][]int32{source: {0}}))
		return found.GetBlock(source, 0).Offset
	}
	for from := 0; from < 1000; from += 100 {
		for _, commit := range []bool{false, true} {
			check.Ok(writer.BeginTxn())
			produce(writer, sink, from, from+100)
			check.Ok(writer.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{
				source: {{Partition: 0, Offset: int64(from + 100), LeaderEpoch: -1}},
			}, group))
			if commit {
				check.Ok(writer.CommitTxn())
				// With Kafka it takes a moment.
				check.Until("the offset of a commit is shown", func() bool { return position() == int64(from+100) })
			} else {
				check.Ok(writer.AbortTxn())
				check.That("offset after an abort", from == 0 && position() == -1 || position() == int64(from))
			}
		}
	}
	check.Numbers("committed", values(readAll(sink, 0, nil)), 0, 1000)
	all := readAll(sink, 0, func(config *sarama.Config) { config.Consumer.IsolationLevel = sarama.ReadUncommitted })
	check.Same("all", len(all), 2000)
}

func fence() {
	topic, id := topic(1, nil), check.Name("writer")
	first := transactional(id)
	check.Ok(first.BeginTxn())
	produce(first, topic, 0, 1)
	second := transactional(id)
	check.Ok(second.BeginTxn())
	produce(second, topic, 1, 2)
	fenced := first.CommitTxn()
	check.That(fmt.Sprint("the first is fenced, not ", fenced), fenced != nil)
	check.Ok(second.CommitTxn())
	check.Ok(second.Close())
	_ = first.Close() // It may say once more that it is fenced.
	check.Numbers("committed", values(readAll(topic, 0, nil)), 1, 2)
}

func offsets() {
	topic, group, client, writer := topic(2, nil), check.Name("group"), admin(), producer(nil)
	defer client.Close()
	defer writer.Close()
	produce(writer, topic, 0, 100)
	asker := check.Must(sarama.NewClient([]string{node}, settings(nil)))
	defer asker.Close()
	manager := check.Must(sarama.NewOffsetManagerFromClient(group, asker))
	partition := check.Must(manager.ManagePartition(topic, 1))
	partition.MarkOffset(5, "zwölf: 十二")
	manager.Commit()
	partition.AsyncClose()
	check.Ok(manager.Close())
	found := check.Must(client.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1}}))
	check.Same("offset", found.GetBlock(topic, 1).Offset, 5)
	check.Same("metadata", found.GetBlock(topic, 1).Metadata, "zwölf: 十二")
	check.Same("nothing for the other", found.GetBlock(topic, 0).Offset, -1)
}

func killed() {
	topic, group, client := topic(4, nil), check.Name("group"), producer(nil)
	defer client.Close()
	check.Killed(
		func() *check.Member { return check.Start(node, "member", group, topic) },
		func(from, to int) { produce(client, topic, from, to) },
	)
	asker := admin()
	defer asker.Close()
	found := check.Must(asker.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1, 2, 3}}))
	sum := int64(0)
	for partition := range int32(4) {
		sum += found.GetBlock(topic, partition).Offset
	}
	check.Same("committed offsets", sum, 800)
}

// handler says lines `p` with the number of its partitions, and `c` with what is committed.
type handler struct{}

func (handler) Setup(session sarama.ConsumerGroupSession) error {
	for _, partitions := range session.Claims() {
		fmt.Println("p", len(partitions))
	}
	return nil
}

func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	var read []string
	for {
		select {
		case record, open := <-claim.Messages():
			if !open {
				return nil
			}
			session.MarkMessage(record, "")
			if read = append(read, string(record.Value)); len(claim.Messages()) == 0 {
				session.Commit()
				fmt.Println("c", strings.Join(read, " "))
				read = nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func member(group, topic string) {
	client := check.Must(sarama.NewConsumerGroup([]string{node}, group, settings(func(config *sarama.Config) {
		config.Consumer.Group.Session.Timeout = 6 * time.Second
		config.Consumer.Group.Rebalance.Timeout = 5 * time.Second
		config.Consumer.Group.Heartbeat.Interval = time.Second
	})))
	running, stop := context.WithCancel(context.Background())
	ended := check.Ended()
	go func() {
		<-ended
		stop()
	}()
	for running.Err() == nil {
		check.Ok(client.Consume(running, []string{topic}, handler{}))
	}
	check.Ok(client.Close())
}

func administration() {
	week, snappy, day := "604800000", "snappy", "86400000"
	topic, client, group := topic(2, map[string]*string{"retention.ms": &week, "compression.type": &snappy}), admin(),
		check.Name("group")
	defer client.Close()
	setting := func(key string) string {
		for _, entry := range check.Must(client.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource,
			Name: topic})) {
			if entry.Name == key {
				return entry.Value
			}
		}
		return "(none)"
	}
	check.Same("retention.ms", setting("retention.ms"), week)
	check.Same("compression.type", setting("compression.type"), snappy)
	check.Ok(client.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms":     {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &day},
		"compression.type": {Operation: sarama.IncrementalAlterConfigsOperationDelete},
	}, false))
	check.Same("retention.ms", setting("retention.ms"), day)
	check.Same("compression.type", setting("compression.type"), "producer")
	exists := client.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	check.That(fmt.Sprint("it exists: ", exists), errors.Is(exists, sarama.ErrTopicAlreadyExists))
	check.Ok(client.CreatePartitions(topic, 5, nil, false))
	check.Until("it has five partitions", func() bool {
		return len(check.Must(client.DescribeTopics([]string{topic}))[0].Partitions) == 5
	})
	writer := producer(func(config *sarama.Config) { config.Producer.Partitioner = sarama.NewManualPartitioner })
	defer writer.Close()
	for range 20 {
		_, _, err := writer.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: 3,
			Value: sarama.StringEncoder("0")})
		check.Ok(err)
	}
	check.Ok(client.DeleteRecords(topic, map[int32]int64{3: 10}))
	found := check.Must(client.ListOffsets(map[string]map[int32]int64{topic: {3: sarama.OffsetOldest}}, nil))
	check.Same("the start after deleting", found[topic][3].Offset, 10)

	altered := check.Must(client.AlterConsumerGroupOffsets(group,
		map[string]map[int32]sarama.OffsetAndMetadata{topic: {3: {Offset: 12, LeaderEpoch: -1, Metadata: "moved"}}},
		nil))
	check.Same("altering", altered.Errors[topic][3], sarama.ErrNoError)
	_, listed := check.Must(client.ListConsumerGroups())[group]
	check.That("the group is listed", listed)
	check.Same("its state", check.Must(client.DescribeConsumerGroups([]string{group}))[0].State, "Empty")
	check.Ok(client.DeleteConsumerGroupOffset(group, topic, 3))
	check.Ok(client.DeleteConsumerGroup(group))
	check.Ok(client.DeleteTopic(topic))
	check.Until("it is gone", func() bool {
		_, is := check.Must(client.ListTopics())[topic]
		return !is
	})
}

func write(run string) {
	for _, codec := range check.Codecs {
		client := producer(func(config *sarama.Config) {
			config.Producer.Compression = codecs[codec]
			config.Producer.Partitioner = sarama.NewManualPartitioner
			config.Producer.Flush.Frequency = 200 * time.Millisecond
		})
		var messages []*sarama.ProducerMessage
		for number := range check.CodecCount {
			message := &sarama.ProducerMessage{
				Topic:   check.CodecTopic(run, "sarama", codec),
				Key:     sarama.StringEncoder("sarama-" + strconv.Itoa(number)),
				Headers: []sarama.RecordHeader{{Key: []byte("codec"), Value: []byte(codec)}},
			}
			if value := check.CodecValue(number); value != nil {
				message.Value = sarama.ByteEncoder(value)
			}
			messages = append(messages, message)
		}
		check.Ok(client.SendMessages(messages))
		check.Ok(client.Close())
	}
}

func read(run string, writers []string) {
	for _, codec := range check.Codecs {
		for _, writer := range writers {
			records := readAll(check.CodecTopic(run, writer, codec), 0, nil)
			check.Same(writer+" "+codec+": records", len(records), check.CodecCount)
			for number, record := range records {
				check.CodecRecord(writer, codec, number, record.Offset, record.Key, record.Value,
					record.Headers[0].Value)
			}
		}
		fmt.Println("ok  codecs: sarama reads", codec, "of", strings.Join(writers, " "))
	}
}
